//! The interrupt engine, hosted by this process. An emulated device raises its interrupts here.
//!
//! Raising a vector takes no lock, in any thread, while a client masks, attaches or detaches the
//! same vector. See [`Interrupts`].

mod cell;
mod fences;
mod hazard;
mod host;
mod line;
mod table;
mod trigger;

pub use cell::Raised;
pub use table::{Interrupts, VectorCounts};

pub(crate) use host::{IrqCaps, IrqHost, Known};
pub(crate) use table::Table;

#[cfg(test)]
pub(crate) use hazard::FENCED;
