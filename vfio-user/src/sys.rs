//! What no safe crate wraps: memory that is shared with a client, an eventfd known by its number, and
//! whether two descriptors are of one file. The only module with unsafe code.
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

/// The engine's number of a system call's error.
pub(crate) fn errno_of(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// Adds one to an eventfd. A counter that is full says all there is to say already.
///
/// The caller keeps the eventfd open for the time of the call: a cell pins its word.
#[inline]
pub(crate) fn signal(fd: u32, may_block: bool) {
    // SAFETY: the caller keeps the descriptor open; as it came from a descriptor, it fits.
    let fd = unsafe { BorrowedFd::borrow_raw(fd.cast_signed()) };
    signal_fd(fd, may_block);
}

/// Adds one to an eventfd, and does not wait where its counter is full.
#[inline]
pub(crate) fn signal_fd(fd: BorrowedFd<'_>, may_block: bool) {
    if may_block && !has_room(fd) {
        return;
    }
    // The one error left is that the counter is full.
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

/// Whether an eventfd can be written to without waiting.
pub(crate) fn has_room(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(&fd, PollFlags::OUT)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    !rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready == 0)
}

/// Takes what an eventfd has counted, without waiting: a write that waits for room goes on.
pub(crate) fn drain(fd: BorrowedFd<'_>) -> bool {
    let mut count = [0; 8];
    let mut into = [IoSliceMut::new(&mut count)];
    rustix::io::preadv2(fd, &mut into, u64::MAX, ReadWriteFlags::NOWAIT).is_ok()
}

/// Empties an eventfd whose counter is full. Not while there is room: a write to it does not wait then,
/// and what is counted is the client's.
///
/// The caller keeps the eventfd open for the time of the call.
pub(crate) fn make_room(fd: u32) {
    // SAFETY: the caller keeps the descriptor open; as it came from a descriptor, it fits.
    let fd = unsafe { BorrowedFd::borrow_raw(fd.cast_signed()) };
    if !has_room(fd) {
        drain(fd);
    }
}

/// As [`same_file`]; the caller keeps the other one open for the time of the call.
pub(crate) fn is_same(one: BorrowedFd<'_>, other: u32) -> bool {
    // SAFETY: the caller keeps the descriptor open; as it came from a descriptor, it fits.
    let other = unsafe { BorrowedFd::borrow_raw(other.cast_signed()) };
    same_file(one, other)
}

/// Whether two descriptors are of one open file. `false` where the kernel does not say.
pub(crate) fn same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    // Linux 6.10, and a sixth of the time of the other.
    const F_DUPFD_QUERY: libc::c_int = 1027;
    // SAFETY: the command takes a number and touches no memory, and so does what it is elsewhere.
    let same = unsafe { libc::fcntl(one.as_raw_fd(), F_DUPFD_QUERY, other.as_raw_fd()) };
    if same >= 0 {
        return same == 1;
    }
    is_same_by_kcmp(one, other)
}

/// What kernels before 6.10 have.
fn is_same_by_kcmp(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let pid = std::process::id();
    // SAFETY: the call takes five numbers and touches no memory.
    let compared = unsafe {
        libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one.as_raw_fd(), other.as_raw_fd())
    };
    compared == 0
}

/// Whether a descriptor is of an eventfd.
pub(crate) fn is_eventfd(fd: BorrowedFd<'_>) -> bool {
    if probe::is_surely_eventfd(fd) {
        return true;
    }
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    match rustix::fs::readlink(path, Vec::with_capacity(32)) {
        Ok(target) => target.to_bytes() == b"anon_inode:[eventfd]",
        // No /proc here. Any other file of the kernel's own only harms who sent it; one of a file
        // system could have a raise wait that nobody can wake.
        Err(_) => is_anonymous(fd),
    }
}

/// Whether it is of no file system, pipe or socket.
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
