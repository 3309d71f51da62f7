//! Memory that the device can access. The device may change it at any time, so the driver copies it
//! and never borrows it.

use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use vm_memory::{FileOffset, MmapRegion};

/// Memory that can be mapped for a device: an anonymous file (memfd).
#[derive(Debug)]
pub struct Memory {
    pub(crate) region: MmapRegion,
    file: Arc<File>,
}

impl Memory {
    pub(crate) fn new(size: u64) -> io::Result<Self> {
        let len = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("vfio-irq nvme", flags)?;
        rustix::fs::ftruncate(&file, size)?;
        // The emulating process receives the file, and must not shrink it under the mapping
        // (SIGBUS).
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let file = Arc::new(File::from(file));
        let region = MmapRegion::from_file(FileOffset::from_arc(Arc::clone(&file), 0), len);
        Ok(Self { region: region.map_err(io::Error::other)?, file })
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.region.size() as u64
    }

    /// Returns the address in this process, for a VFIO map call. The memory stays mapped as long as
    /// this value lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.region.as_ptr()
    }
}

impl AsFd for Memory {
    /// Returns the file, which holds the memory from offset 0.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
