//! Memory that the device can access. The device may change it at any time, so the driver copies it
//! and never borrows it.

use super::Error;
use super::function::AnyFunction;
use rustix::fs::{MemfdFlags, SealFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// The lowest device address: above the range that common machines reserve for interrupts.
const FIRST: u64 = 1 << 32;
/// The end of device addresses: one bit less than the smallest IOMMU address width in use.
const END: u64 = 1 << 38;

/// Memory that can be mapped for a device: an anonymous file (memfd).
#[derive(Debug)]
pub struct Memory {
    region: MmapRegion,
    file: Arc<File>,
}

impl Memory {
    fn new(size: u64) -> io::Result<Self> {
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

/// The device address space of one device.
pub(crate) struct Space {
    function: AnyFunction,
    page: u64,
    used: Mutex<BTreeMap<u64, u64>>,
}

impl Space {
    /// `page`: what addresses and sizes are multiples of.
    pub(crate) fn new(function: AnyFunction, page: u64) -> Arc<Self> {
        // The host maps whole host pages.
        let page = page.max(rustix::param::page_size() as u64);
        Arc::new(Self { function, page, used: Mutex::default() })
    }

    /// Allocates zeroed memory and maps it for the device.
    pub(crate) fn allocate(self: &Arc<Self>, size: u64) -> Result<Arc<Dma>, Error> {
        let failed = |source| Error::Memory { size, source };
        let size = size.checked_next_multiple_of(self.page).unwrap_or(u64::MAX);
        let memory = Memory::new(size).map_err(failed)?;
        let address =
            self.reserve(size).ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        if let Err(source) = self.function.map(&memory, address) {
            self.release(address);
            return Err(failed(source));
        }
        Ok(Arc::new(Dma { memory, address, space: Arc::clone(self) }))
    }

    /// Returns the lowest free range of this size.
    fn reserve(&self, size: u64) -> Option<u64> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = FIRST;
        for (start, len) in &*used {
            if start.saturating_sub(at) >= size {
                break;
            }
            at = start.saturating_add(*len);
        }
        at.checked_add(size).filter(|end| *end <= END)?;
        used.insert(at, size);
        Some(at)
    }

    fn release(&self, address: u64) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }
}

/// Memory that is mapped for the device until dropped.
pub(crate) struct Dma {
    memory: Memory,
    address: u64,
    space: Arc<Space>,
}

impl Dma {
    /// Returns the device address.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Returns true if it is mapped in that address space.
    pub(crate) fn is_of(&self, space: &Arc<Space>) -> bool {
        Arc::ptr_eq(&self.space, space)
    }

    /// Copies `data` into the memory. Returns `None` beyond its end.
    pub(crate) fn write(&self, at: usize, data: &[u8]) -> Option<()> {
        let slice = self.memory.region.get_slice(at, data.len()).ok()?;
        slice.copy_from(data);
        Some(())
    }

    /// Copies from the memory to `data`. Returns `None` beyond its end.
    pub(crate) fn read(&self, at: usize, data: &mut [u8]) -> Option<()> {
        let slice = self.memory.region.get_slice(at, data.len()).ok()?;
        slice.copy_to(data);
        Some(())
    }

    /// Loads an aligned word with acquire ordering.
    pub(crate) fn load(&self, at: usize) -> Option<u32> {
        let slice = self.memory.region.as_volatile_slice();
        slice.load(at, Ordering::Acquire).ok().map(u32::from_le)
    }
}

impl Drop for Dma {
    fn drop(&mut self) {
        let (address, size) = (self.address, self.memory.size());
        match self.space.function.unmap(address, size) {
            Ok(()) => self.space.release(address),
            // The address range stays allocated: the device may still access the memory.
            Err(error) => {
                tracing::warn!(%error, address, size, "memory stays mapped for an NVMe controller");
            }
        }
    }
}
