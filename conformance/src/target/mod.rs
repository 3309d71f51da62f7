//! The targets of the cases: two ioctls as bytes, eventfds, and a device whose interrupts can be
//! raised.

mod calls;
mod counters;
mod kernel;
mod sim;
mod socket;

pub use calls::Calls;
pub use kernel::Kernel;
pub use sim::Simulator;
pub use socket::{Board, Socket};

use crate::vfio::Facts;
use crate::{Answer, Error, Index};
use std::fmt;

/// The vfio-pci-core that answers. It decides the expectation where the two differ by design. The
/// driver on top (vfio-pci, a vendor's variant driver) does not matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Core {
    /// Linux's core, in C.
    C,
    /// This project's core, in Rust: rules B hold.
    Rust,
}

impl Core {
    /// Returns the core of the running kernel. Only the Rust core has a module version that begins
    /// with vfio-irq.
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

/// The counts of one vector (`CONTRACT.md`, B-05).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Signalled interrupts; `None` if they are not counted, or the vector is not attached.
    pub signals: Option<u64>,
    /// Times the vector was masked.
    pub masks: u64,
    /// Times the vector was unmasked.
    pub unmasks: u64,
    /// Times the trigger was replaced.
    pub retargets: u64,
    /// Times the loopback signalled the vector.
    pub loopbacks: u64,
    /// Requests that failed because of the vector.
    pub failures: u64,
}

impl Counted {
    /// Returns what was counted since `before`.
    fn since(self, before: Self) -> Self {
        let less = |now: u64, before: u64| now.saturating_sub(before);
        let signals = self.signals.map(|now| less(now, before.signals.unwrap_or(0)));
        Self {
            signals,
            masks: less(self.masks, before.masks),
            unmasks: less(self.unmasks, before.unmasks),
            retargets: less(self.retargets, before.retargets),
            loopbacks: less(self.loopbacks, before.loopbacks),
            failures: less(self.failures, before.failures),
        }
    }
}

/// What a device's configuration space says of its interrupts, past VFIO's emulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IrqRegisters {
    /// The command register.
    pub command: u16,
    /// The device asserts INTx, whether or not DisINTx is set.
    pub asserts_intx: bool,
    /// The MSI capability is enabled.
    pub msi_enabled: bool,
    /// The MSI-X capability is enabled.
    pub msix_enabled: bool,
}

/// A target that answers VFIO's two interrupt ioctls.
///
/// Requests are bytes, and memory behind them is unreadable. A request with a bad address is one
/// that claims more data than it carries.
pub trait Target {
    /// Returns the core whose answers to expect.
    fn core(&self) -> Core;

    /// Returns true if a Linux of an older version answers. Some rules do not hold there.
    fn is_before_linux(&self, _major: u32, _minor: u32) -> bool {
        false
    }

    /// Returns the interrupt capabilities in the device's configuration space.
    fn facts(&self) -> Facts;

    /// Makes GET_IRQ_INFO and overwrites the bytes with the answer. Returns the return value.
    fn get_irq_info(&mut self, bytes: &mut [u8]) -> Result<Answer, Error>;

    /// Makes GET_IRQ_INFO at an address that can be read and not written. Returns `None` if the
    /// target has no such address.
    fn get_irq_info_unwritable(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Error>;

    /// Makes SET_IRQS. Returns the answer.
    fn set_irqs(&mut self, bytes: &[u8]) -> Result<Answer, Error>;

    /// Creates an eventfd. Returns its number.
    fn eventfd(&mut self) -> Result<i32, Error>;

    /// Opens a file that is no eventfd. Returns its descriptor.
    fn other_file(&mut self) -> Result<i32, Error>;

    /// Returns how often an eventfd was signalled since the last call.
    fn signals(&mut self, fd: i32) -> Result<u64, Error>;

    /// Waits at most ten seconds for a signal of an eventfd. Returns true if there was one.
    fn wait(&mut self, fd: i32) -> Result<bool, Error>;

    /// Signals an eventfd from user space, and has INTx react if the eventfd is armed.
    fn signal(&mut self, fd: i32) -> Result<(), Error>;

    /// Returns how many vectors of the index, from 0 on, [`Target::raise`] can raise.
    fn reach(&self, index: Index) -> u32;

    /// Prepares the device for [`Target::raise`]; the index must be active. May signal.
    fn ready(&mut self, index: Index, vectors: u32) -> Result<(), Error>;

    /// Has the device raise a vector.
    fn raise(&mut self, index: Index, vector: u32) -> Result<(), Error>;

    /// Has the device deassert INTx. Returns false if INTx of the device does not stay asserted.
    fn acknowledge(&mut self) -> Result<bool, Error>;

    /// Returns the number of the machine's interrupts that MSI and MSI-X of this device hold.
    fn allocated(&self) -> Option<usize>;

    /// Returns the vectors of MSI or MSI-X that have an eventfd; `None` if the target does not say.
    fn attached(&self) -> Option<Vec<u32>>;

    /// Returns the vectors of MSI-X that the device's table does not mask; `None` if it cannot be
    /// read.
    fn unmasked(&self) -> Result<Option<Vec<u32>>, Error> {
        Ok(None)
    }

    /// Returns the device's registers of interrupts; `None` if they cannot be read.
    fn registers(&self) -> Result<Option<IrqRegisters>, Error> {
        Ok(None)
    }

    /// Returns the counts of a vector; `None` if they cannot be read.
    fn counted(&self, vector: u32) -> Option<Counted>;

    /// Returns the vectors for which the host keeps state; `None` if they cannot be read.
    fn known(&self) -> Option<Vec<u32>>;

    /// Makes SET_IRQS and counts its calls of the kernel. Returns `None` if they cannot be counted.
    fn calls_of(&mut self, _bytes: &[u8]) -> Result<Option<(Answer, Calls)>, Error> {
        Ok(None)
    }

    /// Returns the names of this device's handlers in the system's list; `None` if it has no list.
    fn handlers(&self) -> Option<Vec<String>>;

    /// Returns the names of the handlers, each with the number of its interrupt.
    fn interrupts(&self) -> Option<Vec<(u32, String)>> {
        None
    }

    /// Resets the device. Returns false if the target has no reset.
    fn reset(&mut self) -> Result<bool, Error>;

    /// Clears a vector's message in the device's MSI-X table, as a hidden reset does. Returns false
    /// if the target has no table.
    fn forget_message(&mut self, _vector: u32) -> Result<bool, Error> {
        Ok(false)
    }

    /// Returns true if the pin is known to have no routed interrupt.
    fn disconnected(&self) -> bool {
        false
    }

    /// Closes the device.
    fn close(&mut self) -> Result<(), Error>;

    /// Returns the resources that a closed device still holds; `None` if there are none.
    fn leaks(&self) -> Option<String>;

    /// Opens the device again, in the state after a reset.
    fn open(&mut self) -> Result<(), Error>;
}
