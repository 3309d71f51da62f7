//! Registers of a device in this process's memory, and its memory in the IOMMU. The only module with
//! unsafe code.
#![allow(unsafe_code)]

use super::memory::Memory;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use vfio_ioctls::{VfioDevice, VfioError, VfioOps};
use vm_memory::{FileOffset, MmapRegion};

/// BAR 0, mapped.
pub(crate) struct Registers(MmapRegion);

impl Registers {
    /// Maps it.
    pub(crate) fn map(device: &VfioDevice, offset: u64, size: u64) -> io::Result<Self> {
        let len = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a `VfioDevice` owns its descriptor, and is borrowed for longer than the result.
        let fd = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
        let file = File::from(fd.try_clone_to_owned()?);
        let region = MmapRegion::from_file(FileOffset::new(file, offset), len);
        region.map(Self).map_err(io::Error::other)
    }

    /// Returns the address of an aligned word in the BAR.
    fn place(&self, offset: u64) -> Option<*mut u32> {
        let at = usize::try_from(offset).ok().filter(|at| at.is_multiple_of(4))?;
        at.checked_add(4).filter(|end| *end <= self.0.size())?;
        Some(self.0.as_ptr().wrapping_add(at).cast())
    }

    pub(crate) fn read(&self, offset: u64) -> Option<u32> {
        let place = self.place(offset)?;
        // SAFETY: aligned and inside of the mapping, as `place` has checked; the mapping lives as
        // long as `self`, and nothing in this process borrows from it.
        Some(u32::from_le(unsafe { place.read_volatile() }))
    }

    pub(crate) fn write(&self, offset: u64, value: u32) -> Option<()> {
        let place = self.place(offset)?;
        // SAFETY: as for reading. What the device does then it does to memory that was mapped for
        // it, which nothing in this process borrows.
        unsafe { place.write_volatile(value.to_le()) };
        Some(())
    }
}

/// Lets the device reach memory.
pub(crate) fn map(ops: &dyn VfioOps, memory: &Memory, address: u64) -> Result<(), VfioError> {
    let size = usize::try_from(memory.size()).unwrap_or(usize::MAX);
    // SAFETY: the memory is mapped here for as long as `memory` lives, and the kernel keeps its pages
    // for the device beyond that, until they are unmapped. Whatever the device writes there changes
    // nothing that is borrowed: `Memory` copies.
    unsafe { ops.vfio_dma_map(address, size, memory.as_ptr()) }
}
