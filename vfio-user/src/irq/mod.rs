//! The interrupt engine, hosted by this process. An emulated device raises its interrupts here.
//!
//! Each vector has a mutex ([`guarded::Guarded`]). A raise holds it while it writes to the eventfd,
//! and a request holds it while it masks, attaches or detaches the vector.

mod device_irqs;
mod guarded;
mod host;
mod interrupts;
mod intx;
mod trigger;
mod vector;

pub use interrupts::Interrupts;
pub use vector::{Raised, VectorCounts};

pub(crate) use device_irqs::DeviceIrqs;
pub(crate) use host::{IrqCaps, IrqHost, Known};
