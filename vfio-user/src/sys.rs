//! System calls without a safe wrapper: shared mappings, and the comparison of descriptors. The only
//! module with unsafe code.
#![allow(unsafe_code)]

mod guard;
mod mapping;

pub(crate) use mapping::Mapping;

use std::os::fd::{AsRawFd, BorrowedFd};

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

/// Returns true if the file can be written at all. Writes nothing: the kernel looks for the write
/// method of the file first (EINVAL), and refuses the address second (EFAULT).
pub(crate) fn has_write_method(fd: BorrowedFd<'_>) -> bool {
    let nowhere = std::ptr::without_provenance(usize::MAX);
    // SAFETY: the kernel reads the memory, not this process. No process has memory at that address,
    // so the call reads nothing and returns EFAULT.
    let written = unsafe { libc::write(fd.as_raw_fd(), nowhere, 8) };
    written < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::same_file;
    use std::os::fd::AsFd;

    #[test]
    fn a_duplicate_is_the_same_file() {
        let pipe = rustix::pipe::pipe().unwrap();
        let (one, other) = (pipe.0, pipe.1);
        let again = one.try_clone().unwrap();
        // Some containers forbid it, and two are never the same then.
        let says = super::is_same_by_kcmp(one.as_fd(), one.as_fd());
        assert_eq!(super::is_same_by_kcmp(one.as_fd(), again.as_fd()), says);
        assert!(!super::is_same_by_kcmp(one.as_fd(), other.as_fd()));
        assert_eq!(same_file(one.as_fd(), again.as_fd()), same_file(one.as_fd(), one.as_fd()));
        assert!(!same_file(one.as_fd(), other.as_fd()));
    }
}
