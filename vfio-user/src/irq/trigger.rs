//! Eventfds of the client.

use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat, readlink};
use rustix::io::ReadWriteFlags;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
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

/// Returns true if the descriptor is an eventfd.
fn is_eventfd(fd: BorrowedFd<'_>) -> bool {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match readlink(path, Vec::with_capacity(32)) {
        Ok(target) => target.to_bytes() == b"anon_inode:[eventfd]",
        // Without /proc, any anonymous inode passes; it harms only the client that sent it. A file
        // of a file system is refused, because it could block a raise forever.
        Err(_) => is_anonymous(fd),
    }
}

/// Returns true for an anonymous inode: no file system, pipe or socket.
fn is_anonymous(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Unknown)
}

#[cfg(test)]
mod tests {
    use super::{is_anonymous, is_eventfd};
    use std::os::fd::AsFd;

    #[test]
    fn only_an_eventfd_is_one_with_proc_and_without() {
        let eventfd = crate::transport::waker().unwrap();
        assert!(is_eventfd(eventfd.as_fd()) && is_anonymous(eventfd.as_fd()));
        let (pipe, file) = (rustix::pipe::pipe().unwrap(), std::fs::File::open("/").unwrap());
        let socket = std::os::unix::net::UnixStream::pair().unwrap().0;
        for fd in [pipe.0.as_fd(), pipe.1.as_fd(), file.as_fd(), socket.as_fd()] {
            assert!(!is_eventfd(fd) && !is_anonymous(fd));
        }
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC);
        assert!(!is_eventfd(epoll.unwrap().as_fd()));
    }
}
