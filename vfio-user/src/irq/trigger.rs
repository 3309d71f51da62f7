//! Eventfds of the client.

use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::ReadWriteFlags;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vfio_irq_engine::Errno;

/// An eventfd that the client sent. Dropping the trigger closes it.
#[derive(Debug)]
pub(crate) struct Trigger(OwnedFd);

impl Trigger {
    /// Takes a descriptor that the client sent. Returns `EINVAL` if it is not an eventfd
    /// (`CONTRACT.md`, V-10).
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        if is_eventfd(fd.as_fd()) { Ok(Self(fd)) } else { Err(Errno::EINVAL) }
    }

    /// Adds one to the counter. Blocks if the counter is full and the client has cleared
    /// `O_NONBLOCK`.
    #[inline]
    pub(crate) fn signal(&self) {
        // EAGAIN is the only possible error: the counter is full, so the eventfd is readable.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Reads the counter without blocking. Returns true if it was not zero.
    pub(crate) fn drain(&self) -> bool {
        let mut count = [0; 8];
        let mut into = [IoSliceMut::new(&mut count)];
        rustix::io::preadv2(&self.0, &mut into, u64::MAX, ReadWriteFlags::NOWAIT).is_ok()
    }

    /// Empties the counter if it is full, so that a blocked write continues. Otherwise leaves the
    /// counter alone: it belongs to the client.
    pub(crate) fn make_room(&self) {
        let mut polled = [PollFd::new(&self.0, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut polled, Some(&now)).is_ok_and(|ready| ready == 0) {
            self.drain();
        }
    }

    /// Returns true if `other` is the same eventfd.
    pub(crate) fn is(&self, other: &Self) -> bool {
        sys::same_file(self.as_fd(), other.as_fd())
    }
}

impl AsFd for Trigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns true for an anonymous inode that can be written: no file of a file system, which could
/// block a raise forever, no pipe, socket, epoll or timer.
///
/// The link in /proc/self/fd names an eventfd exactly, but reading it takes as long as a third of
/// SET_IRQS. The trade-off: the few other anonymous inodes that have a write method pass, such as a
/// VFIO device. A client that sends one has its own file written, and loses its own interrupts.
fn is_eventfd(fd: BorrowedFd<'_>) -> bool {
    let anonymous =
        fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Unknown);
    anonymous && sys::has_write_method(fd)
}

#[cfg(test)]
mod tests {
    use super::is_eventfd;
    use rustix::event::epoll;
    use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
    use std::os::fd::{AsFd, OwnedFd};

    #[test]
    fn only_an_eventfd_is_one() {
        let eventfd = crate::transport::waker().unwrap();
        assert!(is_eventfd(eventfd.as_fd()));
        assert_eq!(rustix::io::read(&eventfd, &mut [0; 8]), Err(rustix::io::Errno::AGAIN));
        let full = rustix::event::eventfd(u32::MAX, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        rustix::io::write(&full, &(u64::MAX - 1 - u64::from(u32::MAX)).to_ne_bytes()).unwrap();
        assert!(is_eventfd(full.as_fd()));
        let (read, write) = rustix::pipe::pipe().unwrap();
        let others: [(&str, OwnedFd); 6] = [
            ("the reading end of a pipe", read),
            ("the writing end of a pipe", write),
            ("a folder", std::fs::File::open("/").unwrap().into()),
            ("a socket", std::os::unix::net::UnixStream::pair().unwrap().0.into()),
            ("epoll", epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()),
            ("a timer", timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap()),
        ];
        for (name, fd) in others {
            assert!(!is_eventfd(fd.as_fd()), "{name}");
        }
    }
}
