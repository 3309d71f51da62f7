//! Devices that raise interrupts on request.

pub mod edu;
mod igb;
pub mod nvme;

use crate::vfio::Dma;
use crate::{Error, Index, sys::Mapping};
use std::sync::Arc;

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

/// The devices of the lab.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Kind {
    /// QEMU's NVMe controller: MSI-X, real queues, INTx.
    Nvme,
    /// QEMU's teaching device: one MSI that a register write raises, INTx.
    Edu,
    /// QEMU's USB controller: several MSI vectors, loopback only.
    Xhci,
    /// QEMU's Intel 82576: MSI-X, and MSI with a mask bit.
    Igb,
}

impl Kind {
    /// Returns the stimulus of this device; none for loopback only.
    pub fn stimulus(self, bar: Arc<Mapping>, dma: Arc<Dma>) -> Option<Box<dyn Stimulus>> {
        match self {
            Self::Nvme => Some(Box::new(nvme::Controller::new(bar, dma))),
            Self::Edu => Some(Box::new(edu::Edu::new(bar))),
            Self::Igb => Some(Box::new(igb::Igb::new(bar))),
            Self::Xhci => None,
        }
    }
}
