//! System calls without a safe wrapper: shared mappings, eventfds by number, and descriptor
//! comparison. The only module with unsafe code.
#![allow(unsafe_code)]

mod guard;
mod mapping;
mod probe;

pub(crate) use mapping::Mapping;

use rustix::event::{PollFd, PollFlags};
use rustix::io::ReadWriteFlags;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use vfio_irq_engine::Errno;

/// Converts the errno of a system call to that of the engine.
pub(crate) fn errno_of(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// Adds one to an eventfd. If the counter is full, the eventfd is readable already.
///
/// The caller keeps the eventfd open during the call: a hazard pointer protects the cell.
#[inline]
pub(crate) fn signal(fd: u32, may_block: bool) {
    // SAFETY: the caller keeps the descriptor open; as it came from a descriptor, it fits.
    let fd = unsafe { BorrowedFd::borrow_raw(fd.cast_signed()) };
    signal_fd(fd, may_block);
}

/// Adds one to an eventfd without blocking.
#[inline]
pub(crate) fn signal_fd(fd: BorrowedFd<'_>, may_block: bool) {
    if may_block && !has_room(fd) {
        return;
    }
    // EAGAIN is the only possible error: the counter is full.
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

/// Returns true if a write to the eventfd does not block.
pub(crate) fn has_room(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(&fd, PollFlags::OUT)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    !rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready == 0)
}

/// Reads the counter of an eventfd without blocking. A blocked write then continues.
pub(crate) fn drain(fd: BorrowedFd<'_>) -> bool {
    let mut count = [0; 8];
    let mut into = [IoSliceMut::new(&mut count)];
    rustix::io::preadv2(fd, &mut into, u64::MAX, ReadWriteFlags::NOWAIT).is_ok()
}

/// Empties an eventfd whose counter is full, to unblock a write. Otherwise leaves the counter
/// alone: it belongs to the client.
///
/// The caller keeps the eventfd open for the time of the call.
pub(crate) fn make_room(fd: u32) {
    // SAFETY: the caller keeps the descriptor open; as it came from a descriptor, it fits.
    let fd = unsafe { BorrowedFd::borrow_raw(fd.cast_signed()) };
    if !has_room(fd) {
        drain(fd);
    }
}

/// As [`same_file`]. The caller keeps the other descriptor open during the call.
pub(crate) fn is_same(one: BorrowedFd<'_>, other: u32) -> bool {
    // SAFETY: the caller keeps the descriptor open; as it came from a descriptor, it fits.
    let other = unsafe { BorrowedFd::borrow_raw(other.cast_signed()) };
    same_file(one, other)
}

/// Returns true if two descriptors refer to the same open file description, and false if the kernel
/// does not tell.
pub(crate) fn same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    // `F_DUPFD_QUERY` needs Linux 6.10, and takes a sixth of the time of `kcmp(2)`.
    const F_DUPFD_QUERY: libc::c_int = 1027;
    // SAFETY: the command takes a number and accesses no memory. Where the kernel does not know the
    // command, it does nothing.
    let same = unsafe { libc::fcntl(one.as_raw_fd(), F_DUPFD_QUERY, other.as_raw_fd()) };
    if same >= 0 {
        return same == 1;
    }
    is_same_by_kcmp(one, other)
}

/// Compares by `kcmp(2)`, for kernels before 6.10.
fn is_same_by_kcmp(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let pid = std::process::id();
    // SAFETY: the call takes five numbers and touches no memory.
    let compared = unsafe {
        libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one.as_raw_fd(), other.as_raw_fd())
    };
    compared == 0
}

/// Returns true if the descriptor is an eventfd.
pub(crate) fn is_eventfd(fd: BorrowedFd<'_>) -> bool {
    if probe::is_surely_eventfd(fd) {
        return true;
    }
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    match rustix::fs::readlink(path, Vec::with_capacity(32)) {
        Ok(target) => target.to_bytes() == b"anon_inode:[eventfd]",
        // Without /proc, any anonymous inode passes; it harms only the client that sent it. A file
        // of a file system is refused, because it could block a raise forever.
        Err(_) => is_anonymous(fd),
    }
}

/// Returns true for an anonymous inode: no file system, pipe or socket.
fn is_anonymous(fd: BorrowedFd<'_>) -> bool {
    use rustix::fs::{FileType, fstat};
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Unknown)
}

#[cfg(test)]
mod tests {
    use super::{is_anonymous, is_eventfd, same_file};
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
    }

    #[test]
    fn a_duplicate_is_the_same_file() {
        let (one, other) = (crate::transport::waker().unwrap(), crate::transport::waker().unwrap());
        let again = one.try_clone().unwrap();
        // Some containers forbid it, and two are never the same then.
        let says = super::is_same_by_kcmp(one.as_fd(), one.as_fd());
        assert_eq!(super::is_same_by_kcmp(one.as_fd(), again.as_fd()), says);
        assert!(!super::is_same_by_kcmp(one.as_fd(), other.as_fd()));
        assert_eq!(same_file(one.as_fd(), again.as_fd()), same_file(one.as_fd(), one.as_fd()));
        assert!(!same_file(one.as_fd(), other.as_fd()));
    }
}
