//! A device in memory, for tests of code on [`crate::Vectors`]. The engine answers its requests.
//! Its eventfds are real.
//!
//! ```
//! use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
//! use std::sync::Arc;
//!
//! let device = Arc::new(Simulated::new());
//! let vectors = Vectors::open(Arc::clone(&device), Index::Msix)?;
//! let trigger = Trigger::new()?;
//! let vector = vectors.enable(7, &trigger)?;
//! device.raise(7);
//! assert_eq!(trigger.take(), 1);
//! # Ok::<(), vfio_irq::Error>(())
//! ```

mod device;
mod machine;
#[cfg(feature = "kvm")]
mod vm;

pub use device::Simulated;
#[cfg(feature = "kvm")]
pub use vm::SimulatedVm;

/// An error number, for a step that fails on demand.
pub use vfio_irq_engine::Errno;

/// The interrupt capabilities of a device and its host.
pub use vfio_irq_engine::sim::IrqCaps;
