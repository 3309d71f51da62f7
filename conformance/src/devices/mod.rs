//! Devices that raise interrupts on request.

pub mod edu;
mod igb;
pub mod nvme;
mod xhci;

use crate::vfio::Dma;
use crate::{Error, Index, sys::Mapping};
use std::sync::Arc;

/// The registers of a device: a mapping of its BAR, or messages to the process that emulates it.
pub trait Registers: Send + Sync {
    /// Reads a register, at an offset in bytes.
    fn read32(&self, offset: usize) -> Result<u32, Error>;

    /// Writes a register, after all earlier writes to memory.
    fn write32(&self, offset: usize, value: u32) -> Result<(), Error>;
}

impl Registers for Mapping {
    fn read32(&self, offset: usize) -> Result<u32, Error> {
        self.read32(offset)
    }

    fn write32(&self, offset: usize, value: u32) -> Result<(), Error> {
        self.write32(offset, value)
    }
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
            _ => None,
        }
    }

    /// Returns the stimulus of this device.
    pub fn stimulus(self, bar: Arc<dyn Registers>, dma: Arc<Dma>) -> Box<dyn Stimulus> {
        match self {
            Self::Nvme => Box::new(nvme::Controller::new(bar, dma)),
            Self::Edu => Box::new(edu::Edu::new(bar)),
            Self::Igb => Box::new(igb::Igb::new(bar)),
            Self::Xhci => Box::new(xhci::Xhci::new(bar, dma)),
        }
    }
}
