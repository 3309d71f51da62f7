//! Devices that raise interrupts on request.

pub mod edu;
mod igb;
pub mod nvme;
mod virtio;
mod xhci;

use crate::vfio::Dma;
use crate::{Error, Index, sys::Mapping};
use std::sync::Arc;

/// The registers of a device: a mapping of its BAR, or messages to the process that emulates it.
pub trait Registers: Send + Sync {
    /// Reads a register of 1, 2 or 4 bytes with one access, at an offset in bytes.
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Error>;

    /// Writes a register of 1, 2 or 4 bytes with one access, after all earlier writes to memory.
    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error>;

    /// Reads a register of 4 bytes.
    fn read32(&self, offset: usize) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes a register of 4 bytes.
    fn write32(&self, offset: usize, value: u32) -> Result<(), Error> {
        self.write(offset, &value.to_le_bytes())
    }
}

impl Registers for Mapping {
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
        self.read(offset, bytes)
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.write(offset, bytes)
    }
}

/// A function of which a stimulus uses registers.
pub trait Function {
    /// Returns the registers of a BAR.
    fn registers(&self, bar: u32) -> Result<Arc<dyn Registers>, Error>;

    /// Reads configuration space.
    fn config(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error>;
}

/// A device whose interrupts a test can raise.
pub trait Stimulus: Send {
    /// Returns how many vectors of the index, from 0 on, the device can raise.
    fn reach(&self, index: Index) -> u32;

    /// Prepares the device to raise these vectors; the index must be active. May raise vector 0.
    fn ready(&mut self, index: Index, vectors: u32) -> Result<(), Error>;

    /// Raises a vector within [`Stimulus::reach`]. When it returns, the device has sent the message or asserts INTx.
    fn raise(&mut self, index: Index, vector: u32) -> Result<(), Error>;

    /// Deasserts INTx after [`Stimulus::raise`] of INTx.
    fn acknowledge(&mut self) -> Result<(), Error>;
}

/// Vendor, device and class code of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The vendor ID.
    pub vendor: u16,
    /// The device ID.
    pub device: u16,
    /// The class code: base class, subclass, programming interface.
    pub class: u32,
}

/// A device whose interrupts can be raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An NVMe controller: a queue for each vector of MSI-X.
    Nvme,
    /// QEMU's teaching device: one MSI that a register write raises, INTx.
    Edu,
    /// Intel's 82576: MSI-X, MSI and INTx, by registers that set interrupt causes.
    Igb,
    /// One of QEMU's xHCI controllers: MSI with a vector for each interrupter, INTx, or MSI-X.
    Xhci,
    /// A network card of virtio: MSI-X, of which any vector can be that of a queue, and INTx.
    VirtioNet,
}

impl Kind {
    /// Returns the kind of a function; `None` if nothing here raises its interrupts.
    pub fn of(identity: Identity) -> Option<Self> {
        match identity {
            Identity { class: 0x01_08_02, .. } => Some(Self::Nvme),
            Identity { vendor: 0x1234, device: 0x11e8, .. } => Some(Self::Edu),
            Identity { vendor: 0x8086, device: 0x10c9, .. } => Some(Self::Igb),
            // Controllers of other vendors do not interrupt for a ring that they have not written.
            Identity { vendor: 0x1033, device: 0x0194, .. }
            | Identity { vendor: 0x1b36, device: 0x000d, .. } => Some(Self::Xhci),
            Identity { vendor: 0x1af4, device: 0x1000 | 0x1041, .. } => Some(Self::VirtioNet),
            _ => None,
        }
    }

    /// Returns the stimulus of this device; `None` if its interrupts cannot be raised after all.
    pub fn stimulus(
        self,
        function: &dyn Function,
        dma: Arc<Dma>,
    ) -> Result<Option<Box<dyn Stimulus>>, Error> {
        let bar = || function.registers(0);
        Ok(Some(match self {
            Self::Nvme => Box::new(nvme::Controller::new(bar()?, dma)),
            Self::Edu => Box::new(edu::Edu::new(bar()?)),
            Self::Igb => Box::new(igb::Igb::new(bar()?)),
            Self::Xhci => Box::new(xhci::Xhci::new(bar()?, dma)),
            Self::VirtioNet => match virtio::Net::new(function, dma)? {
                Some(net) => Box::new(net),
                None => return Ok(None),
            },
        }))
    }
}
