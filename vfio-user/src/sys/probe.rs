//! Whether a descriptor is of an eventfd, by one system call.
//!
//! The name that /proc has for it says so as well, at ten times the cost, and clients attach eventfds
//! all the time. Asynchronous I/O takes an eventfd to signal and looks at it before it looks at the
//! request: one with flags that do not exist is refused with EOPNOTSUPP if the eventfd was one, with
//! EINVAL if it was not. Where any of that is different, nothing is said to be an eventfd here.

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
    /// One that tells an eventfd from what is none.
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

    /// Submits a read that cannot be, of which this eventfd is to be told.
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
        // SAFETY: the context is ours, and nobody uses it any more.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

/// Whether the kernel takes it for an eventfd. `false` says nothing: this process may have forked, or
/// may not use what this takes.
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
