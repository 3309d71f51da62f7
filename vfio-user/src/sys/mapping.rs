//! Mappings of client memory.

use super::guard;
use crate::errno;
use rustix::fs::FileType;
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use vfio_irq_engine::Errno;

/// Client memory, mapped into this process. The client may write it at any time, so every access is
/// a copy (TOCTOU). The client may truncate the file; accesses then fail with `EFAULT`.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    /// The bytes between the start of the page and the requested range.
    before: usize,
    /// The client has truncated the file.
    cut: AtomicBool,
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
    /// Returns `EINVAL` if the descriptor is no file with a size, or the file is too short: an
    /// access past its end raises SIGBUS. Otherwise returns the errno of `mmap(2)`.
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        readable: bool,
        writable: bool,
    ) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(fd).map_err(errno::of)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let end = offset.checked_add(len).ok_or(Errno::EINVAL)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || end > size {
            return Err(Errno::EINVAL);
        }
        let before = offset % page(&stat);
        let offset = offset - before;
        let len = len.checked_add(before).and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or(Errno::EINVAL)?;
        let before = usize::try_from(before).map_err(|_| Errno::EINVAL)?;
        guard::install()?;
        let mut protection = ProtFlags::empty();
        protection.set(ProtFlags::READ, readable || !writable);
        protection.set(ProtFlags::WRITE, writable);
        let (anywhere, flags) = (std::ptr::null_mut(), MapFlags::SHARED | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe { rustix::mm::mmap(anywhere, len, protection, flags, fd, offset) };
        let start = NonNull::new(start.map_err(errno::of)?.cast()).ok_or(Errno::ENOMEM)?;
        Ok(Self { start, len, before, cut: AtomicBool::new(false) })
    }

    /// Accesses the memory. If a page is missing, this access and all later ones fail.
    fn touch<T>(&self, access: impl FnOnce() -> T) -> Result<T, Errno> {
        if self.cut.load(Ordering::Relaxed) {
            return Err(Errno::EFAULT);
        }
        let (value, cut) = guard::watch(self.start.as_ptr().addr(), self.len, access);
        if cut {
            self.cut.store(true, Ordering::Relaxed);
            return Err(Errno::EFAULT);
        }
        Ok(value)
    }

    fn at(&self, offset: usize, len: usize) -> Result<*mut u8, Errno> {
        let start = offset.checked_add(self.before).ok_or(Errno::EFAULT)?;
        let end = start.checked_add(len).filter(|end| *end <= self.len);
        end.map(|_| self.start.as_ptr().wrapping_add(start)).ok_or(Errno::EFAULT)
    }

    /// Copies from the mapping.
    pub(crate) fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), Errno> {
        let from = self.at(offset, data.len())?;
        // SAFETY: `at` has checked that the bytes are inside the mapping, which lives as long as
        // `self`; `data` is ours alone, and no Rust reference to the mapping exists anywhere.
        self.touch(|| unsafe {
            std::ptr::copy_nonoverlapping(from, data.as_mut_ptr(), data.len());
        })
    }

    /// Copies to the mapping.
    pub(crate) fn write(&self, offset: usize, data: &[u8]) -> Result<(), Errno> {
        let to = self.at(offset, data.len())?;
        // SAFETY: as in `read`.
        self.touch(|| unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) })
    }

    fn word(&self, offset: usize) -> Result<&AtomicU32, Errno> {
        let at = self.at(offset, 4)?.cast::<u32>();
        if !at.is_aligned() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: inside the mapping and aligned, and only accessed atomically through this.
        Ok(unsafe { AtomicU32::from_ptr(at) })
    }

    /// Loads a word with acquire ordering.
    pub(crate) fn load(&self, offset: usize) -> Result<u32, Errno> {
        let word = self.word(offset)?;
        self.touch(|| word.load(Ordering::Acquire))
    }

    /// Stores a word with release ordering.
    pub(crate) fn store(&self, offset: usize, value: u32) -> Result<(), Errno> {
        let word = self.word(offset)?;
        self.touch(|| word.store(value, Ordering::Release))
    }

    /// Reads from a file into the mapping. Returns the number of bytes.
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

    /// Writes from the mapping to a file. Returns the number of bytes.
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

/// Returns the page size of a mapping of this file; for hugetlbfs it is the block size.
fn page(stat: &rustix::fs::Stat) -> u64 {
    let page = rustix::param::page_size() as u64;
    let block = u64::try_from(stat.st_blksize).unwrap_or(page);
    if block.is_power_of_two() { page.max(block) } else { page }
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
