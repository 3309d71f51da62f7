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
///
/// ```
/// use vfio_irq_nvme::driver::{Function, Socket};
/// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
/// /// Whether the controller is enabled (CC.EN), whoever carries it.
/// fn is_enabled(function: &impl Function) -> std::io::Result<bool> {
///     Ok(function.read32(0x14)? & 1 != 0)
/// }
/// assert!(!is_enabled(&Socket::connect(&path)?)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Function: Transport + Send + Sync {
    /// Returns the class code of configuration space: base class, subclass, interface, such as
    /// 0x010802.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Function, Socket};
    /// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
    /// assert_eq!(Socket::connect(&path)?.class()?, 0x01_08_02, "storage, non-volatile, NVMe");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn class(&self) -> io::Result<u32>;

    /// Returns the size of BAR 0 in bytes.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Function, Socket};
    /// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
    /// // Registers, doorbells from 4 KiB on, and the MSI-X table.
    /// assert_eq!(Socket::connect(&path)?.size(), 64 << 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn size(&self) -> u64;

    /// Reads a 32-bit register.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Function, Socket};
    /// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
    /// // VS, at 0x08: NVMe 1.4.
    /// assert_eq!(Socket::connect(&path)?.read32(0x08)?, 0x0001_0400);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn read32(&self, offset: u64) -> io::Result<u32>;

    /// Writes a 32-bit register.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Function, Socket};
    /// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
    /// let controller = Socket::connect(&path)?;
    /// controller.write32(0x24, 31 << 16 | 31)?; // AQA: the admin queues have 32 entries each.
    /// assert_eq!(controller.read32(0x24)?, 0x001f_001f);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn write32(&self, offset: u64, value: u32) -> io::Result<()>;

    /// Reads a 64-bit register: the lower half first, then the upper half.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Function, Socket};
    /// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
    /// // CAP.MQES, in the lower 16 bits of register 0: entries of a queue, less one.
    /// let capabilities = Socket::connect(&path)?.read64(0)?;
    /// assert!(capabilities & 0xffff >= 1);
    /// // CAP.CSS says that it has NVM commands.
    /// assert_ne!(capabilities >> 37 & 1, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn read64(&self, offset: u64) -> io::Result<u64> {
        let low = self.read32(offset)?;
        Ok(u64::from(self.read32(offset.saturating_add(4))?) << 32 | u64::from(low))
    }

    /// Writes a 64-bit register: the lower half first, then the upper half.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Function, Socket};
    /// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
    /// let controller = Socket::connect(&path)?;
    /// controller.write64(0x28, 0x12_3456_7000)?; // ASQ, an address of the device's.
    /// assert_eq!((controller.read32(0x28)?, controller.read32(0x2c)?), (0x3456_7000, 0x12));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn write64(&self, offset: u64, value: u64) -> io::Result<()> {
        let (low, high) = super::halves(value);
        self.write32(offset, low)?;
        self.write32(offset.saturating_add(4), high)
    }

    /// Writes a doorbell. The write may be posted.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Function, Socket};
    /// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
    /// let controller = Socket::connect(&path)?;
    /// controller.ring(0x1000, 1)?; // The tail of queue 0, which is not there while CC.EN is 0.
    /// // Whatever comes next is carried out after it.
    /// assert_eq!(controller.read32(0x1c)? & 1, 0, "not ready");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn ring(&self, offset: u64, value: u32) -> io::Result<()> {
        self.write32(offset, value)
    }

    /// Sets or clears Bus Master Enable.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Function, Socket};
    /// use vfio_irq_user::{Client, ClientOptions, pci::region::CONFIG};
    /// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
    /// let controller = Socket::connect(&path)?;
    /// controller.set_bus_master(true)?; // From now on it fetches commands.
    /// drop(controller);
    /// // The next client finds a controller that may not.
    /// let mut command = [0; 2];
    /// Client::connect(&path, ClientOptions::default())?.region_read(CONFIG, 4, &mut command)?;
    /// assert_eq!(command[0] & 1 << 2, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn set_bus_master(&self, on: bool) -> io::Result<()>;

    /// Maps `memory` for the device at `address`.
    ///
    /// # Errors
    ///
    /// What the system or the server says.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::Memory;
    /// # let mapped = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/memory.rs"));
    /// // A driver that starts maps its queues, each piece at an address of its own.
    /// let mut places = mapped(|memory: &Memory, address| (address, memory.size()))?;
    /// places.sort();
    /// assert!(!places.is_empty());
    /// assert!(places.windows(2).all(|pair| pair[0].0 != pair[1].0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn map(&self, memory: &Memory, address: u64) -> io::Result<()>;

    /// Unmaps memory; the range must equal that of a mapping.
    ///
    /// # Errors
    ///
    /// What the system or the server says.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Function, Socket};
    /// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
    /// // Nothing is mapped there.
    /// let error = Socket::connect(&path)?.unmap(1 << 32, 4096).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn unmap(&self, address: u64, size: u64) -> io::Result<()>;
}

/// Any function, type-erased.
pub(super) type AnyFunction = Arc<dyn Function>;
