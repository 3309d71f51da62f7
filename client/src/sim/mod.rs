//! A device that exists only in memory, answered by the engine: for tests of whatever is written on
//! [`crate::Vectors`]. Its eventfds are real ones.
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

/// An error number, for a step that is to fail.
pub use vfio_irq_engine::Errno;

/// What a device and its host have.
pub use vfio_irq_engine::sim::IrqCaps;
