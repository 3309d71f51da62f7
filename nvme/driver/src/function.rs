//! The interface between the driver and a PCI function.

use super::memory::Memory;
use std::io;
use std::sync::Arc;
use vfio_irq::Transport;

/// A PCI function with an NVMe controller: its BAR 0, its DMA mappings and, by [`Transport`], its
/// interrupts.
///
/// [`super::Socket`] implements it over vfio-user, and `super::Device` over VFIO of the kernel
/// (feature `vfio-ioctls`).
pub trait Function: Transport + Send + Sync {
    /// Returns the class code of configuration space: base class, subclass, interface, such as
    /// 0x010802.
    ///
    /// # Errors
    ///
    /// Returns an error if the device does not respond.
    fn class(&self) -> io::Result<u32>;

    /// Returns the size of BAR 0 in bytes.
    fn size(&self) -> u64;

    /// Reads a 32-bit register.
    ///
    /// # Errors
    ///
    /// Returns an error if the device does not respond.
    fn read32(&self, offset: u64) -> io::Result<u32>;

    /// Writes a 32-bit register.
    ///
    /// # Errors
    ///
    /// Returns an error if the device does not respond.
    fn write32(&self, offset: u64, value: u32) -> io::Result<()>;

    /// Reads a 64-bit register: the lower half first, then the upper half.
    ///
    /// # Errors
    ///
    /// Returns an error if the device does not respond.
    fn read64(&self, offset: u64) -> io::Result<u64> {
        let low = self.read32(offset)?;
        Ok(u64::from(self.read32(offset.saturating_add(4))?) << 32 | u64::from(low))
    }

    /// Writes a 64-bit register: the lower half first, then the upper half.
    ///
    /// # Errors
    ///
    /// Returns an error if the device does not respond.
    fn write64(&self, offset: u64, value: u64) -> io::Result<()> {
        let (low, high) = super::halves(value);
        self.write32(offset, low)?;
        self.write32(offset.saturating_add(4), high)
    }

    /// Writes a doorbell. The write may be posted.
    ///
    /// # Errors
    ///
    /// Returns an error if the device does not respond.
    fn ring(&self, offset: u64, value: u32) -> io::Result<()> {
        self.write32(offset, value)
    }

    /// Sets or clears Bus Master Enable.
    ///
    /// # Errors
    ///
    /// Returns an error if the device does not respond.
    fn set_bus_master(&self, on: bool) -> io::Result<()>;

    /// Maps `memory` for the device at `address`.
    ///
    /// # Errors
    ///
    /// Returns the errno of the kernel or of the server.
    fn map(&self, memory: &Memory, address: u64) -> io::Result<()>;

    /// Unmaps memory; the range must equal that of a mapping.
    ///
    /// # Errors
    ///
    /// Returns the errno of the kernel or of the server.
    fn unmap(&self, address: u64, size: u64) -> io::Result<()>;
}

/// Any function, type-erased.
pub(crate) type AnyFunction = Arc<dyn Function>;
