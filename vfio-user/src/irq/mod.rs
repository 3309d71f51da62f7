//! The engine hosted by this process: what an emulated device raises interrupts with.
//!
//! Raising a vector takes no lock, whichever thread does it and whatever a client is doing to the
//! vector meanwhile; see [`Interrupts`].

mod cell;
mod fences;
mod host;
mod line;
mod pins;
mod table;
mod trigger;

pub use cell::Raised;
pub use table::{Interrupts, VectorCounts};

pub(crate) use host::{IrqCaps, IrqHost, Known};
pub(crate) use table::Table;

#[cfg(test)]
pub(crate) use pins::FENCED;
