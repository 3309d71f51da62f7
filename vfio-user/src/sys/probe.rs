//! Checks whether a descriptor is an eventfd, with one system call.
//!
//! The link in /proc/self/fd tells as well, but costs ten times as much, and clients attach
//! eventfds often. `io_submit(2)` resolves the eventfd of `IOCB_FLAG_RESFD` before it checks the
//! flags of the request. A request with invalid flags fails with EOPNOTSUPP if the descriptor is an
//! eventfd, and with EINVAL if not. If the kernel behaves differently, the probe recognizes no
//! eventfd, and /proc decides.

use rustix::event::epoll;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

/// `struct iocb` as the kernel has it where the lesser half of a word is first.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    file: i32,
    buffer: u64,
    bytes: u64,
    offset: u64,
    reserved: u64,
    flags: u32,
    eventfd: i32,
}

struct Probe {
    context: libc::c_ulong,
}

impl Probe {
    /// Creates a probe. Returns `None` if the probe cannot tell an eventfd from another file.
    fn new() -> Option<Self> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the context is ours, and 0 as it must be before.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) };
        if made != 0 {
            return None;
        }
        let probe = Self { context };
        let eventfd = crate::transport::waker().ok()?;
        let other = epoll::create(epoll::CreateFlags::CLOEXEC).ok()?;
        let tells = probe.accepts(eventfd.as_fd()) && !probe.accepts(other.as_fd());
        tells.then_some(probe)
    }

    /// Submits an invalid read with this eventfd. Returns true if the kernel accepted the eventfd.
    fn accepts(&self, fd: BorrowedFd<'_>) -> bool {
        const READ: u16 = 0;
        const NO_SUCH_FLAG: u32 = 1 << 31;
        const TELL_EVENTFD: u32 = 1;
        let mut request = Request {
            opcode: READ,
            rw_flags: NO_SUCH_FLAG,
            file: fd.as_raw_fd(),
            flags: TELL_EVENTFD,
            eventfd: fd.as_raw_fd(),
            ..Request::default()
        };
        let requests = [&raw mut request];
        // SAFETY: the array and the request that it points to are valid for the time of the call, and
        // the request reads nothing into no memory, were it carried out.
        let done =
            unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1, requests.as_ptr()) };
        let error = std::io::Error::last_os_error().raw_os_error();
        done == -1 && error == Some(libc::EOPNOTSUPP)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: this value owns the context, and no other call uses it.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

/// Returns true if the kernel accepts the descriptor as an eventfd. False is no answer: the process
/// may have forked, or a filter forbids the system call.
pub(super) fn is_surely_eventfd(fd: BorrowedFd<'_>) -> bool {
    static PROBE: OnceLock<Option<Probe>> = OnceLock::new();
    let probe = PROBE.get_or_init(|| cfg!(target_endian = "little").then(Probe::new).flatten());
    probe.as_ref().is_some_and(|probe| probe.accepts(fd))
}

#[cfg(test)]
mod tests {
    use super::Probe;
    use std::os::fd::AsFd;

    #[test]
    fn only_an_eventfd_is_one() {
        let Some(probe) = Probe::new() else {
            let built = std::path::Path::new("/proc/sys/fs/aio-max-nr").exists();
            assert!(!built, "this kernel has asynchronous I/O, and it tells nothing");
            println!("not tried: this kernel has no asynchronous I/O");
            return;
        };
        let eventfd = crate::transport::waker().unwrap();
        assert!(probe.accepts(eventfd.as_fd()));
        assert!(probe.accepts(eventfd.as_fd()), "however often it is asked");
        assert_eq!(rustix::io::read(&eventfd, &mut [0; 8]), Err(rustix::io::Errno::AGAIN));
        let epoll = super::epoll::create(super::epoll::CreateFlags::CLOEXEC);
        assert!(!probe.accepts(epoll.unwrap().as_fd()));
        assert!(!probe.accepts(std::fs::File::open("/").unwrap().as_fd()));
        assert!(!probe.accepts(std::os::unix::net::UnixStream::pair().unwrap().0.as_fd()));
        let timer = rustix::time::timerfd_create(
            rustix::time::TimerfdClockId::Monotonic,
            rustix::time::TimerfdFlags::CLOEXEC,
        );
        assert!(!probe.accepts(timer.unwrap().as_fd()));
    }
}
