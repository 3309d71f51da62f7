//! The interface between a device and the server.

use crate::irq::{DeviceIrqs, Interrupts};
use crate::memory::Memory;
use crate::pci::{Config, Effects, Function, MsixTable, Part, region};
use std::sync::Arc;
use vfio_irq_engine::Errno;

/// The device's access to its client. Clones share the client, and any thread may use them.
#[derive(Clone, Debug)]
pub struct Bus {
    /// Raises interrupts.
    pub interrupts: Interrupts,
    /// Accesses the memory of the client.
    pub memory: Memory,
}

/// An emulated device.
///
/// The thread that serves the client calls the methods, one at a time. Offsets and lengths are
/// inside the BAR. The server emulates configuration space, the MSI-X table and the masks of
/// interrupts.
///
/// A device may have its own threads, which use clones of its [`Bus`]. A doorbell can be an eventfd
/// ([`crate::pci::Bar::io_eventfd`]) or shared memory that a thread polls
/// ([`crate::pci::Bar::shared`]).
///
/// ```no_run
/// use vfio_irq_user::pci::{Bar, Function};
/// use vfio_irq_user::{Bus, Device, Errno, Options, Server};
///
/// /// Raises the vector whose number the guest writes to BAR 0.
/// struct Doorbell(Bus);
///
/// impl Device for Doorbell {
///     fn read(&mut self, _: u32, _: u64, data: &mut [u8]) -> Result<(), Errno> {
///         data.fill(0);
///         Ok(())
///     }
///
///     fn write(&mut self, _: u32, _: u64, data: &[u8]) -> Result<(), Errno> {
///         self.0.interrupts.raise(data[0].into());
///         Ok(())
///     }
///
///     fn reset(&mut self) {}
/// }
///
/// let function = Function::builder(0x1234, 0x0001)
///     .bar(0, Bar::memory32(0x4000))
///     .msix(8, 0, 0x2000, 0x3000)
///     .build()?;
/// let server = Server::start(Options::default())?;
/// server.add("/run/doorbell.sock", function, Doorbell)?;
/// server.wait();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Device: Send {
    /// The client reads a BAR.
    ///
    /// # Errors
    ///
    /// The client receives the errno.
    fn read(&mut self, bar: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// The client writes a BAR.
    ///
    /// # Errors
    ///
    /// The client receives the errno.
    fn write(&mut self, bar: u32, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// Resets the device, because the client requested it or has disconnected. Eventfds that a
    /// connected client has attached stay attached (`CONTRACT.md`, V-12). Bus Master Enable is then
    /// off; if it was on, the server calls [`Device::bus_master`].
    fn reset(&mut self);

    /// Called when a client has connected and negotiated a version.
    fn connected(&mut self) {}

    /// Called when the client has disconnected. The server then detaches the interrupts, calls
    /// [`Device::reset`], and unmaps the memory last. The next client sees a device after reset.
    fn disconnected(&mut self) {}

    /// Called when the client has mapped `size` bytes at `address`.
    fn mapped(&mut self, address: u64, size: u64) {
        let _ = (address, size);
    }

    /// Called before the server unmaps memory of the client. The server itself waits for [`Memory`]
    /// accesses in progress. If the device has longer transfers in flight, it must end them here.
    fn unmapping(&mut self, address: u64, size: u64) {
        let _ = (address, size);
    }

    /// Called when the guest writes Bus Master Enable (bit 2 of the command register).
    fn bus_master(&mut self, on: bool) {
        let _ = on;
    }
}

/// A device with its configuration space, interrupts and memory. It outlives its clients; each
/// client sees a device after reset.
pub struct Endpoint {
    pub(crate) device: Box<dyn Device>,
    pub(crate) function: Function,
    pub(crate) config: Config,
    pub(crate) table: MsixTable,
    pub(crate) irqs: Arc<DeviceIrqs>,
    pub(crate) memory: Memory,
}

impl Endpoint {
    /// Creates an endpoint. Calls `make` with the bus of the device.
    pub fn new<D: Device + 'static>(function: Function, make: impl FnOnce(Bus) -> D) -> Self {
        let irqs = Arc::new(DeviceIrqs::new(function.vectors()));
        let memory = Memory::default();
        let bus = Bus { interrupts: Interrupts(Arc::clone(&irqs)), memory: memory.clone() };
        Self {
            device: Box::new(make(bus)),
            config: function.config.clone(),
            table: MsixTable::new(function.msix),
            function,
            irqs,
            memory,
        }
    }

    /// Returns the size of a region in bytes: 0 if the region does not exist, `None` beyond the
    /// last index.
    pub(crate) fn region_size(&self, index: u32) -> Option<u64> {
        match index {
            region::CONFIG => Some(self.config.size()),
            region::COUNT.. => None,
            _ => {
                let bar = self.function.bars.get(index as usize).and_then(Option::as_ref);
                Some(bar.map_or(0, |bar| bar.size))
            }
        }
    }

    /// Returns `EINVAL` unless the region exists and contains `end` bytes.
    pub(crate) fn check(&self, index: u32, end: u64) -> Result<(), Errno> {
        let size = self.region_size(index).filter(|size| *size > 0 && end <= *size);
        size.map(drop).ok_or(Errno::EINVAL)
    }

    pub(crate) fn read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.check(index, offset.saturating_add(data.len() as u64))?;
        let irqs = Interrupts(Arc::clone(&self.irqs));
        let pending = |vector| irqs.is_pending(vector);
        if index == region::CONFIG {
            self.config.read(offset, data, irqs.intx_is_asserted(), pending);
            return Ok(());
        }
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let (part, len) = self.table.part(index, at);
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = std::mem::take(&mut rest).split_at_mut(len);
            match part {
                Part::Device => self.device.read(index, at, now)?,
                Part::Table(from) => self.table.read(from, now),
                Part::Pending(from) => MsixTable::read_pending(from, now, pending),
            }
            at = at.saturating_add(len as u64);
            rest = later;
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.check(index, offset.saturating_add(data.len() as u64))?;
        if index == region::CONFIG {
            let effects = self.config.write(offset, data);
            self.take_effect(effects);
            return Ok(());
        }
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let (part, len) = self.table.part(index, at);
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(len);
            match part {
                Part::Device => self.device.write(index, at, now)?,
                Part::Table(from) => self.table.write(from, now),
                // The PBA is read-only.
                Part::Pending(_) => {}
            }
            at = at.saturating_add(len as u64);
            rest = later;
        }
        Ok(())
    }

    fn take_effect(&mut self, effects: Effects) {
        if let Some(command) = effects.command {
            self.irqs.intx.set_disabled_by_command(command & crate::pci::INTX_OFF != 0);
            self.device.bus_master(command & crate::pci::BUS_MASTER != 0);
        }
        if let Some((before, now)) = effects.msi_mask {
            self.irqs.mask_register(self.function.caps.msi, before, now);
        }
        if let Some(masked) = effects.function_mask {
            self.irqs.mask_function(masked);
        }
        if effects.reset {
            self.reset();
        }
    }

    /// Resets everything except the eventfds that the client has attached.
    pub(crate) fn reset(&mut self) {
        // The order matters. The device is reset first: its threads raise interrupts, and may wait
        // for the client, hence the quiesce. Then pending bits are cleared, before the masks:
        // clearing a mask would deliver them.
        let quiesced = self.memory.quiesce();
        self.device.reset();
        drop(quiesced);
        self.irqs.reset();
        self.table.reset();
        let effects = self.config.reset(&self.function.config);
        self.take_effect(effects);
    }
}
