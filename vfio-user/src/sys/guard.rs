//! Accesses to a mapping that the client may truncate.
//!
//! An access beyond the end of the file raises SIGBUS, which would end the process with all its
//! devices. So the thread publishes the range that it is about to access. If SIGBUS hits this
//! range, the handler maps zero pages over the missing part, and the access fails afterwards. The
//! handler passes any other SIGBUS on to the previous handler.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use vfio_irq_engine::Errno;

/// The range that this thread accesses.
#[derive(Clone, Copy)]
struct Watched {
    start: usize,
    len: usize,
    cut: bool,
}

const NOTHING: Watched = Watched { start: 0, len: 0, cut: false };

thread_local! {
    // Without a destructor and never allocated: a signal handler may use it.
    static WATCHED: Cell<Watched> = const { Cell::new(NOTHING) };
}

static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

/// Accesses memory at `start`. Returns true if a part was missing.
pub(super) fn watch<T>(start: usize, len: usize, access: impl FnOnce() -> T) -> (T, bool) {
    WATCHED.set(Watched { start, len, cut: false });
    // The compiler must not reorder the access and the published range.
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    let value = access();
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    (value, WATCHED.replace(NOTHING).cut)
}

/// Installs the handler, once per process.
pub(super) fn install() -> Result<(), Errno> {
    let before = BEFORE.get_or_init(|| {
        let mut ours = MaybeUninit::<libc::sigaction>::zeroed();
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all zero is a valid `sigaction`: the default action, no flags, an empty mask.
        let ours = unsafe { ours.assume_init_mut() };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = handle;
        ours.sa_sigaction = handler as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: both structures are ours and valid; the handler does only what a handler may.
        let done = unsafe { libc::sigaction(libc::SIGBUS, ours, before.as_mut_ptr()) };
        // SAFETY: the kernel has filled it in, and it was zeroed before.
        (done == 0).then(|| unsafe { before.assume_init() })
    });
    before.map(drop).ok_or(Errno::EINVAL)
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid structure.
    let info_of = unsafe { &*info };
    // SAFETY: SIGBUS comes with an address.
    let address = unsafe { info_of.si_addr() }.addr();
    let watched = WATCHED.get();
    if address.wrapping_sub(watched.start) < watched.len && patch(address, watched) {
        WATCHED.set(Watched { cut: true, ..watched });
        return;
    }
    pass_on(signal, info, context);
}

/// Maps zero pages from the page of `address` to the end of the mapping. If pages are larger than
/// the usual ones, replaces the whole mapping.
fn patch(address: usize, watched: Watched) -> bool {
    const PAGE: usize = 4096;
    let (page, end) = (address & !(PAGE - 1), watched.start + watched.len);
    zeros(page, end - page) || zeros(watched.start, watched.len)
}

fn zeros(from: usize, len: usize) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the range is inside a mapping of this crate's that the thread is touching just now, so
    // it is mapped and nothing else's; no Rust reference goes there.
    let patched = unsafe {
        libc::mmap(std::ptr::without_provenance_mut(from), len, protection, flags, -1, 0)
    };
    patched != libc::MAP_FAILED
}

/// Passes the signal on to the previous handler.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let before = BEFORE.get().copied().flatten();
    match before.map(|before| (before.sa_sigaction, before.sa_flags & libc::SA_SIGINFO != 0)) {
        None | Some((libc::SIG_DFL | libc::SIG_IGN, _)) => {
            // SAFETY: restores the default action, by which the access ends the process when it is
            // repeated.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Some((handler, true)) => {
            // SAFETY: `sigaction` returned this address as a handler with three arguments.
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        Some((handler, false)) => {
            // SAFETY: `sigaction` returned this address as a handler with one argument.
            let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
