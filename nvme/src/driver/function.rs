//! What a driver needs of a device, whoever carries it.

use super::memory::Memory;
use std::io;
use std::sync::Arc;
use vfio_irq::Transport;

/// A PCI function with an NVMe controller: its BAR 0, its memory, and (as [`Transport`]) its
/// interrupts.
///
/// [`super::Socket`] is one behind a vfio-user socket, `super::Device` one of the kernel's (feature
/// `vfio-ioctls`).
pub trait Function: Transport + Send + Sync {
    /// The class code of configuration space: base class, subclass, interface, such as 0x010802.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    fn class(&self) -> io::Result<u32>;

    /// Bytes of BAR 0.
    fn size(&self) -> u64;

    /// Reads a register.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    fn read32(&self, offset: u64) -> io::Result<u32>;

    /// Writes a register.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    fn write32(&self, offset: u64, value: u32) -> io::Result<()>;

    /// Reads a register of 64 bits: its lower half, then its upper one.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    fn read64(&self, offset: u64) -> io::Result<u64> {
        let low = self.read32(offset)?;
        Ok(u64::from(self.read32(offset.saturating_add(4))?) << 32 | u64::from(low))
    }

    /// Writes a register of 64 bits: its lower half, then its upper one.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    fn write64(&self, offset: u64, value: u64) -> io::Result<()> {
        let (low, high) = super::halves(value);
        self.write32(offset, low)?;
        self.write32(offset.saturating_add(4), high)
    }

    /// Writes a doorbell. Need not wait until the write is done.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    fn ring(&self, offset: u64, value: u32) -> io::Result<()> {
        self.write32(offset, value)
    }

    /// Lets the device reach for memory, or forbids it.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    fn set_bus_master(&self, on: bool) -> io::Result<()>;

    /// Lets the device reach `memory` at this address.
    ///
    /// # Errors
    ///
    /// What the system or the server says.
    fn map(&self, memory: &Memory, address: u64) -> io::Result<()>;

    /// Takes memory away again, exactly as it was mapped.
    ///
    /// # Errors
    ///
    /// What the system or the server says.
    fn unmap(&self, address: u64, size: u64) -> io::Result<()>;
}

/// Any function: drivers do not care which.
pub(super) type AnyFunction = Arc<dyn Function>;
