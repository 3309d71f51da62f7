//! What no safe crate wraps: memory that is shared with a client, an eventfd known by its number, and
//! whether two descriptors are of one file. The only module with unsafe code.
#![allow(unsafe_code)]

use crate::errno;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::FileType;
use rustix::io::ReadWriteFlags;
use rustix::mm::{MapFlags, ProtFlags};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
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
    if may_block {
        let mut polled = [PollFd::new(&fd, PollFlags::OUT)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready == 0) {
            return;
        }
    }
    // The one error left is that the counter is full.
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

/// Takes what an eventfd has counted, without waiting: a write that waits for room goes on.
pub(crate) fn drain(fd: BorrowedFd<'_>) -> bool {
    let mut count = [0; 8];
    let mut into = [IoSliceMut::new(&mut count)];
    rustix::io::preadv2(fd, &mut into, u64::MAX, ReadWriteFlags::NOWAIT).is_ok()
}

/// Whether two descriptors are of one open file. `false` where the kernel does not say.
pub(crate) fn same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let pid = std::process::id();
    // SAFETY: the call takes five numbers and touches no memory.
    let compared = unsafe {
        libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one.as_raw_fd(), other.as_raw_fd())
    };
    compared == 0
}

/// Memory of a client's, mapped into this process. The client writes it whenever it likes.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to no thread, and is only accessed by copies and atomic words.
unsafe impl Send for Mapping {}
// SAFETY: as above; what two accesses at a time leave there is the client's to arrange, as with any
// device.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a part of a file.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is no file with a size, or shorter than what is asked for: an access past
    /// its end would kill this process. Else what the system says.
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        readable: bool,
        writable: bool,
    ) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(fd).map_err(errno_of)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let end = offset.checked_add(len).ok_or(Errno::EINVAL)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || end > size {
            return Err(Errno::EINVAL);
        }
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        let mut protection = ProtFlags::empty();
        protection.set(ProtFlags::READ, readable || !writable);
        protection.set(ProtFlags::WRITE, writable);
        let (anywhere, flags) = (std::ptr::null_mut(), MapFlags::SHARED | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe { rustix::mm::mmap(anywhere, len, protection, flags, fd, offset) };
        let start = NonNull::new(start.map_err(errno_of)?.cast()).ok_or(Errno::ENOMEM)?;
        Ok(Self { start, len })
    }

    fn at(&self, offset: usize, len: usize) -> Result<*mut u8, Errno> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len);
        end.map(|_| self.start.as_ptr().wrapping_add(offset)).ok_or(Errno::EFAULT)
    }

    /// Copies out of the memory.
    pub(crate) fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), Errno> {
        let from = self.at(offset, data.len())?;
        // SAFETY: `at` has checked that the bytes are inside the mapping, which lives as long as
        // `self`; `data` is ours alone, and no Rust reference to the mapping exists anywhere.
        unsafe { std::ptr::copy_nonoverlapping(from, data.as_mut_ptr(), data.len()) };
        Ok(())
    }

    /// Copies into the memory.
    pub(crate) fn write(&self, offset: usize, data: &[u8]) -> Result<(), Errno> {
        let to = self.at(offset, data.len())?;
        // SAFETY: as in `read`.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
        Ok(())
    }

    fn word(&self, offset: usize) -> Result<&AtomicU32, Errno> {
        let at = self.at(offset, 4)?.cast::<u32>();
        if !at.is_aligned() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: inside the mapping and aligned, and only accessed atomically through this.
        Ok(unsafe { AtomicU32::from_ptr(at) })
    }

    /// Reads a word at once, before everything that is read after it.
    pub(crate) fn load(&self, offset: usize) -> Result<u32, Errno> {
        Ok(self.word(offset)?.load(Ordering::Acquire))
    }

    /// Writes a word at once, after everything that was written before it.
    pub(crate) fn store(&self, offset: usize, value: u32) -> Result<(), Errno> {
        self.word(offset)?.store(value, Ordering::Release);
        Ok(())
    }

    /// Reads from a file straight into the memory; how many bytes.
    pub(crate) fn fill(
        &self,
        offset: usize,
        len: usize,
        file: BorrowedFd<'_>,
        position: u64,
    ) -> Result<usize, Errno> {
        let to = self.at(offset, len)?;
        let position = i64::try_from(position).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the kernel writes inside the mapping, as `at` has checked, or reports EFAULT.
        let read = unsafe { libc::pread64(file.as_raw_fd(), to.cast(), len, position) };
        usize::try_from(read).map_err(|_| last_errno())
    }

    /// Writes from the memory straight to a file; how many bytes.
    pub(crate) fn drain(
        &self,
        offset: usize,
        len: usize,
        file: BorrowedFd<'_>,
        position: u64,
    ) -> Result<usize, Errno> {
        let from = self.at(offset, len)?;
        let position = i64::try_from(position).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the kernel reads inside the mapping, as `at` has checked, or reports EFAULT.
        let written = unsafe { libc::pwrite64(file.as_raw_fd(), from.cast(), len, position) };
        usize::try_from(written).map_err(|_| last_errno())
    }
}

fn last_errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(errno::EIO, Errno::from_raw)
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and nothing borrows from it.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping that was made can be unmapped");
    }
}

/// Whether a descriptor is of an eventfd.
pub(crate) fn is_eventfd(fd: BorrowedFd<'_>) -> bool {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    match rustix::fs::readlink(path, Vec::with_capacity(32)) {
        Ok(target) => target.to_bytes() == b"anon_inode:[eventfd]",
        // No /proc here: take the client's word, as a wrong one only harms itself.
        Err(_) => true,
    }
}
