//! The device addresses of one device, and the memory that is mapped there.

use super::Error;
use super::function::AnyFunction;
use super::memory::Memory;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::{Bytes, VolatileMemory};

/// The lowest device address: above the range that common machines reserve for interrupts.
const FIRST: u64 = 1 << 32;
/// The end of device addresses: one bit less than the smallest IOMMU address width in use.
const END: u64 = 1 << 38;

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
