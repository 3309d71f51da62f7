// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An eventfd of user space that masks or unmasks a vector whenever it is signalled.
//!
//! The signal arrives with the eventfd's own lock held and interrupts off, where a device cannot be
//! touched. It puts the watch on a list of its device, and work of the *device's own* goes through
//! the list under the device's lock, like any request. VFIO has work of its own to offer for this
//! and must not be used: it waits for that work on one thread for all devices of the host, which
//! would then wait for this device's lock.
//!
//! Taking a watch down waits for the device's work, and must therefore happen without the lock:
//! watches are retired first.

use super::bindings;
use super::device::Device;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr::{addr_of_mut, null_mut, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::bindings as linux;
use kernel::ffi::{c_int, c_void};
use kernel::prelude::*;
use kernel::types::Opaque;
use vfio_irq_engine::{Errno, Gate};

/// The watches of one device that have fired, and the work that sees to them.
#[pin_data]
pub(super) struct Firing {
    first: AtomicPtr<Armed>,
    /// Counts what fires: what fired last is what holds in the end.
    clock: AtomicU64,
    #[pin]
    work: Opaque<linux::work_struct>,
    device: *const Device,
}

// SAFETY: The list is atomic, the work is C's to synchronise, and a `Device` is reached from any
// thread.
unsafe impl Send for Firing {}
// SAFETY: As above.
unsafe impl Sync for Firing {}

impl Firing {
    /// For a part of `device`: it is there whenever this is used.
    pub(super) fn new(device: *const Device) -> impl PinInit<Self> {
        pin_init!(Self {
            first: AtomicPtr::new(null_mut()),
            clock: AtomicU64::new(0),
            work <- Opaque::ffi_init(|work| {
                // SAFETY: The place is valid and stays; what is to run takes the work of a `Firing`.
                unsafe {
                    linux::init_work_with_key(
                        work,
                        Some(run),
                        false,
                        c"vfio-pci-rs watches".as_ptr().cast(),
                        kernel::static_lock_class!().as_ptr(),
                    )
                }
            }),
            device,
        })
    }

    /// From any context.
    fn fire(&self, armed: &Armed) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        armed.fired.store(now, Ordering::Release);
        // On the list already: the work has it before it, and looks at when it fired last.
        if !armed.queued.swap(true, Ordering::AcqRel) {
            let node = core::ptr::from_ref(armed).cast_mut();
            let mut first = self.first.load(Ordering::Relaxed);
            loop {
                armed.next.store(first, Ordering::Relaxed);
                match self.first.compare_exchange_weak(
                    first,
                    node,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => break,
                    Err(now) => first = now,
                }
            }
        }
        // SAFETY: The work was initialised in place, and lives as long as the device.
        unsafe {
            linux::queue_work_on(
                linux::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                linux::system_dfl_wq,
                self.work.get(),
            )
        };
    }

    /// Waits until no work runs or is queued.
    fn flush(&self) {
        // SAFETY: As in `fire`.
        unsafe { linux::flush_work(self.work.get()) };
    }
}

/// What the virqfd knows the address of. Everybody has it shared.
pub(super) struct Armed {
    /// Null once the eventfd was closed for good.
    virqfd: UnsafeCell<*mut bindings::virqfd>,
    firing: *const Firing,
    number: u32,
    gate: Gate,
    queued: AtomicBool,
    /// When it fired last, by the clock of its device.
    fired: AtomicU64,
    /// In the list of fired watches.
    next: AtomicPtr<Armed>,
    /// The work's own: when it had fired, and which fired after it.
    seen: AtomicU64,
    later: AtomicPtr<Armed>,
    /// In a list of retired watches.
    retired: AtomicPtr<Armed>,
}

/// # Invariants
///
/// Points to an allocation of its own, whose address the virqfd knows until it is disabled, and the
/// device's work until it is flushed, both in `drop`.
pub(crate) struct Watch(NonNull<Armed>);

// SAFETY: What is behind the pointer is shared, atomic, or C's under a lock of its own.
unsafe impl Send for Watch {}
// SAFETY: As above.
unsafe impl Sync for Watch {}

impl Watch {
    /// Arms the eventfd behind a descriptor: `EBADF`, `EINVAL` for a file that is no eventfd.
    pub(super) fn arm(firing: &Firing, number: u32, gate: Gate, fd: i32) -> Result<Self, Errno> {
        let armed = Armed {
            virqfd: UnsafeCell::new(null_mut()),
            firing,
            number,
            gate,
            queued: AtomicBool::new(false),
            fired: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            later: AtomicPtr::new(null_mut()),
            next: AtomicPtr::new(null_mut()),
            retired: AtomicPtr::new(null_mut()),
        };
        let armed = KBox::new(armed, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
        let armed = KBox::into_raw(armed);
        // SAFETY: `wake` expects these two; both stay valid until the virqfd is disabled in `drop`.
        let ret = unsafe {
            bindings::vfio_virqfd_enable(
                core::ptr::from_ref(firing).cast_mut().cast(),
                Some(wake),
                None,
                armed.cast(),
                UnsafeCell::raw_get(addr_of_mut!((*armed).virqfd)),
                fd,
            )
        };
        match NonNull::new(armed) {
            // INVARIANT: Enabled just now.
            Some(armed) if ret == 0 => Ok(Self(armed)),
            _ => {
                // SAFETY: From `into_raw`; the virqfd was not enabled and nobody else knows it.
                drop(unsafe { KBox::from_raw(armed) });
                Err(Errno::from_raw(ret))
            }
        }
    }

    fn armed(&self) -> &Armed {
        // SAFETY: By the invariant.
        unsafe { self.0.as_ref() }
    }

    /// Whether the eventfd is still there.
    pub(crate) fn is_armed(&self) -> bool {
        // SAFETY: A pointer that C clears; only whether it is null matters.
        unsafe { !self.armed().virqfd.get().read_volatile().is_null() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let armed = self.armed();
        // SAFETY: By the invariant. When this returns, `wake` is not called any more.
        unsafe { bindings::vfio_virqfd_disable(armed.virqfd.get()) };
        // SAFETY: The device outlives its watches. No watch of it is in the list when this returns
        // but such as may still be woken.
        unsafe { &*armed.firing }.flush();
        // SAFETY: From `into_raw`; neither C nor the work knows it any more.
        drop(unsafe { KBox::from_raw(self.0.as_ptr()) });
    }
}

/// Watches that are out of use. To be dropped with no lock held that the device's work takes.
#[derive(Default)]
#[must_use = "to be dropped without the device's lock"]
pub(crate) struct Retired(Option<Watch>);

impl Retired {
    pub(crate) fn push(&mut self, watch: Watch) {
        let before = self.0.take().map_or(null_mut(), |watch| {
            let armed = watch.0.as_ptr();
            core::mem::forget(watch);
            armed
        });
        watch.armed().retired.store(before, Ordering::Relaxed);
        self.0 = Some(watch);
    }
}

impl Drop for Retired {
    #[inline]
    fn drop(&mut self) {
        // One after the other: a list that drops itself would go as deep as it is long.
        while let Some(watch) = self.0.take() {
            let before = watch.armed().retired.load(Ordering::Relaxed);
            // INVARIANT: A watch that `push` took out of its place without dropping it.
            self.0 = NonNull::new(before).map(Watch);
        }
    }
}

/// The eventfd was signalled. Its lock is held and interrupts are off.
///
/// # Safety
///
/// Both are what the virqfd was armed with, and valid until it is disabled.
unsafe extern "C" fn wake(firing: *mut c_void, armed: *mut c_void) -> c_int {
    // SAFETY: Armed with these two; both are valid until the virqfd is disabled, which waits.
    let (firing, armed) = unsafe { (&*firing.cast::<Firing>(), &*armed.cast::<Armed>()) };
    firing.fire(armed);
    0
}

/// The device's work: sees to every watch on the list, in the order in which they fired last.
unsafe extern "C" fn run(work: *mut linux::work_struct) {
    // SAFETY: The work of a `Firing`, which lives as long as the device.
    let firing = unsafe { &*work.byte_sub(offset_of!(Firing, work)).cast::<Firing>() };
    // SAFETY: As above; the device waits for this work before it goes.
    let device = unsafe { &*firing.device };
    let mut next = firing.in_order();
    while let Some(node) = NonNull::new(next) {
        // SAFETY: It was on the list, so that its watch is still there: it waits for this work.
        let armed = unsafe { node.as_ref() };
        next = armed.later.load(Ordering::Relaxed);
        device.watch_fired(armed.number, armed.gate, |watch| watch.0 == node);
    }
}

impl Firing {
    /// Takes the list; the watches in the order in which they fired last. For the work alone, which
    /// never runs twice at once.
    fn in_order(&self) -> *mut Armed {
        let mut first: *mut Armed = null_mut();
        let mut next = self.first.swap(null_mut(), Ordering::AcqRel);
        while let Some(node) = NonNull::new(next) {
            // SAFETY: As in `run`.
            let armed = unsafe { node.as_ref() };
            next = armed.next.load(Ordering::Relaxed);
            // From here on it may be put on the list again, and is then seen to again.
            armed.queued.store(false, Ordering::SeqCst);
            armed.seen.store(armed.fired.load(Ordering::SeqCst), Ordering::Relaxed);
            first = insert(first, armed);
        }
        first
    }
}

/// Puts a watch where it belongs by when it fired. Watches come with the latest first, so that this
/// mostly ends at once.
fn insert(first: *mut Armed, armed: &Armed) -> *mut Armed {
    let node = core::ptr::from_ref(armed).cast_mut();
    let seen = armed.seen.load(Ordering::Relaxed);
    let (mut before, mut after) = (None::<&Armed>, first);
    while let Some(there) = NonNull::new(after) {
        // SAFETY: As in `run`.
        let there = unsafe { there.as_ref() };
        if there.seen.load(Ordering::Relaxed) > seen {
            break;
        }
        after = there.later.load(Ordering::Relaxed);
        before = Some(there);
    }
    armed.later.store(after, Ordering::Relaxed);
    match before {
        None => node,
        Some(before) => {
            before.later.store(node, Ordering::Relaxed);
            first
        }
    }
}
