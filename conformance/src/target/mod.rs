//! What the cases run against: two ioctls as bytes, eventfds, and a device to be provoked.

mod calls;
mod counters;
mod kernel;
mod sim;

pub use calls::Calls;
pub use kernel::Kernel;
pub use sim::Simulator;

use crate::vfio::Facts;
use crate::{Answer, Error, Index};
use std::fmt;

/// Whose vfio-pci-core answers: this decides what to expect where the two differ by design. The
/// name of the driver on top of it (vfio-pci, a vendor's variant driver) does not matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Core {
    /// Linux's own, in C.
    C,
    /// This project's, in Rust: rules B hold.
    Rust,
}

impl Core {
    /// The core of the running kernel. The Rust core alone has a module version that begins with
    /// vfio-irq.
    pub fn loaded() -> Self {
        match std::fs::read_to_string("/sys/module/vfio_pci_core/version") {
            Ok(version) if version.starts_with("vfio-irq") => Self::Rust,
            _ => Self::C,
        }
    }
}

impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::C => "c",
            Self::Rust => "rust",
        })
    }
}

/// What was counted of one vector (`CONTRACT.md`, B-05).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Interrupts that were signalled; `None` where they are not counted, or the vector is not
    /// attached.
    pub signals: Option<u64>,
    /// Times it was masked.
    pub masks: u64,
    /// Times it was unmasked.
    pub unmasks: u64,
    /// Times its trigger was replaced.
    pub retargets: u64,
    /// Times the loopback signalled it.
    pub loopbacks: u64,
    /// Requests refused because of it.
    pub failures: u64,
}

/// Something that answers VFIO's two interrupt ioctls.
///
/// Requests are bytes, and what is beyond their end cannot be read: a request that claims more than
/// it brings is how a bad address is told.
pub trait Target {
    /// Whose answers to expect.
    fn core(&self) -> Core;

    /// What the device's configuration space says.
    fn facts(&self) -> Facts;

    /// GET_IRQ_INFO; the bytes are overwritten with the answer.
    fn get_irq_info(&mut self, bytes: &mut [u8]) -> Result<Answer, Error>;

    /// GET_IRQ_INFO at an address that can be read and not written; `None` where there is no such
    /// thing.
    fn get_irq_info_unwritable(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Error>;

    /// SET_IRQS.
    fn set_irqs(&mut self, bytes: &[u8]) -> Result<Answer, Error>;

    /// A new eventfd; its number.
    fn eventfd(&mut self) -> Result<i32, Error>;

    /// A descriptor that is open and no eventfd.
    fn other_file(&mut self) -> Result<i32, Error>;

    /// How often an eventfd was signalled since this was asked last.
    fn signals(&mut self, fd: i32) -> Result<u64, Error>;

    /// Waits until an eventfd is signalled, ten seconds at most; whether it was.
    fn wait(&mut self, fd: i32) -> Result<bool, Error>;

    /// Signals an eventfd from user space's side, and lets the line act if it is armed.
    fn signal(&mut self, fd: i32) -> Result<(), Error>;

    /// How many vectors of the index [`Target::raise`] reaches, from 0 on.
    fn reach(&self, index: Index) -> u32;

    /// Readies the device for [`Target::raise`]; the index must be active. May signal.
    fn ready(&mut self, index: Index, vectors: u32) -> Result<(), Error>;

    /// The device raises a vector.
    fn raise(&mut self, index: Index, vector: u32) -> Result<(), Error>;

    /// The device lets go of its line. `false` where the line does not stay asserted.
    fn acknowledge(&mut self) -> Result<bool, Error>;

    /// Interrupts of the machine that MSI and MSI-X of this device hold.
    fn allocated(&self) -> Option<usize>;

    /// What was counted of a vector; `None` where nothing can be read.
    fn counted(&self, vector: u32) -> Option<Counted>;

    /// The vectors of which something is remembered; `None` where nothing can be read.
    fn known(&self) -> Option<Vec<u32>>;

    /// SET_IRQS, and what it asked of the kernel; `None` where that cannot be counted.
    fn calls_of(&mut self, _bytes: &[u8]) -> Result<Option<(Answer, Calls)>, Error> {
        Ok(None)
    }

    /// The names of this device's handlers as the system lists them; `None` where it lists none.
    fn handlers(&self) -> Option<Vec<String>>;

    /// The same, each with the number of its interrupt.
    fn interrupts(&self) -> Option<Vec<(u32, String)>> {
        None
    }

    /// Resets the device; `false` where there is no such thing.
    fn reset(&mut self) -> Result<bool, Error>;

    /// Clears a vector's message in the device's MSI-X table, as a reset does that the kernel does
    /// not see; `false` where there is no such thing.
    fn forget_message(&mut self, _vector: u32) -> Result<bool, Error> {
        Ok(false)
    }

    /// Whether the pin leads nowhere, if that is known.
    fn disconnected(&self) -> bool {
        false
    }

    /// Closes the device.
    fn close(&mut self) -> Result<(), Error>;

    /// What a closed device still holds; `None`: nothing.
    fn leaks(&self) -> Option<String>;

    /// Opens the device again, as it comes from a reset.
    fn open(&mut self) -> Result<(), Error>;
}
