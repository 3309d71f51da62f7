//! Memory that the device reaches, too. It may change at any time, so it is copied, never borrowed.

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

/// Where addresses of devices begin: above what is reserved for interrupts on common machines.
const FIRST: u64 = 1 << 32;
/// Where they end: the fewest address bits of an IOMMU that is in use, and one less.
const END: u64 = 1 << 38;

/// A piece of memory that can be mapped for a device: a file without a name.
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
        // Whoever emulates the device gets the file, and must not shrink it under the mapping.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let file = Arc::new(File::from(file));
        let region = MmapRegion::from_file(FileOffset::from_arc(Arc::clone(&file), 0), len);
        Ok(Self { region: region.map_err(io::Error::other)?, file })
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.region.size() as u64
    }

    /// Where it is in this process, for those who map it for a device of the kernel's. It stays
    /// mapped as long as this value lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.region.as_ptr()
    }
}

impl AsFd for Memory {
    /// The file that holds it, from its beginning.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The addresses of one device.
pub(super) struct Space {
    function: AnyFunction,
    page: u64,
    used: Mutex<BTreeMap<u64, u64>>,
}

impl Space {
    /// `page`: what addresses and sizes are multiples of.
    pub(super) fn new(function: AnyFunction, page: u64) -> Arc<Self> {
        // The system maps whole pages of its own.
        let page = page.max(rustix::param::page_size() as u64);
        Arc::new(Self { function, page, used: Mutex::default() })
    }

    /// New memory, all zeroes, mapped for the device.
    pub(super) fn allocate(self: &Arc<Self>, size: u64) -> Result<Arc<Dma>, Error> {
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

    /// The lowest place where so many bytes are free.
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

/// Memory that is mapped for the device until this value is dropped.
pub(super) struct Dma {
    memory: Memory,
    address: u64,
    space: Arc<Space>,
}

impl Dma {
    /// Where it is for the device.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Whether it is mapped there.
    pub(super) fn is_of(&self, space: &Arc<Space>) -> bool {
        Arc::ptr_eq(&self.space, space)
    }

    /// Copies into it; `None` when it is not that large.
    pub(super) fn write(&self, at: usize, data: &[u8]) -> Option<()> {
        let slice = self.memory.region.get_slice(at, data.len()).ok()?;
        slice.copy_from(data);
        Some(())
    }

    /// Copies out of it; `None` when it is not that large.
    pub(super) fn read(&self, at: usize, data: &mut [u8]) -> Option<()> {
        let slice = self.memory.region.get_slice(at, data.len()).ok()?;
        slice.copy_to(data);
        Some(())
    }

    /// One aligned word, read before everything that is read after it.
    pub(super) fn load(&self, at: usize) -> Option<u32> {
        let slice = self.memory.region.as_volatile_slice();
        slice.load(at, Ordering::Acquire).ok().map(u32::from_le)
    }
}

impl Drop for Dma {
    fn drop(&mut self) {
        let (address, size) = (self.address, self.memory.size());
        match self.space.function.unmap(address, size) {
            Ok(()) => self.space.release(address),
            // The address stays taken: the device may still reach what was there.
            Err(error) => {
                tracing::warn!(%error, address, size, "memory stays mapped for an NVMe controller");
            }
        }
    }
}
