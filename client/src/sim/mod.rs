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
///
/// ```
/// use vfio_irq::sim::Errno;
///
/// let error = std::io::Error::from_raw_os_error(Errno::ENOSPC.raw());
/// assert_eq!(error.kind(), std::io::ErrorKind::StorageFull); // that is how Rust names it
/// ```
pub use vfio_irq_engine::Errno;

/// What a device and its host have.
///
/// ```
/// use vfio_irq::sim::{IrqCaps, Simulated};
/// use vfio_irq::{Index, Trigger, Vectors};
///
/// // As Linux 6.1, on a machine that is short of interrupts.
/// let shape = IrqCaps { dynamic: false, interrupts: 4, ..IrqCaps::default() };
/// let vectors = Vectors::open(Simulated::with(shape), Index::Msix)?;
/// let vector = vectors.enable(0, Trigger::new()?)?;
/// assert_eq!(vectors.transport().allocated(), 4, "all there are, for those to come");
/// # Ok::<(), vfio_irq::Error>(())
/// ```
pub use vfio_irq_engine::sim::IrqCaps;
