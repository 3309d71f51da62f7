//! Interrupts of a VFIO device, one vector at a time: for VMMs and for user-space drivers.
//!
//! A VFIO device signals its interrupts on eventfds. [`Vectors`] attaches eventfds to the vectors
//! of MSI or MSI-X while the device runs, one or many at once. It re-targets, masks and detaches
//! vectors, and reports the capabilities of the host. The same calls work on
//!
//! - the kernel's VFIO, through a group or a character device ([`KernelDevice`]);
//! - rust-vmm's `VfioDevice` (feature `vfio-ioctls`);
//! - a vfio-user socket (`vfio_irq_user::Client`, feature `vfio-user`);
//! - a simulated device (module `sim`, feature `sim`), which most examples here use.
//!
//! ```
//! use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
//!
//! let device = Simulated::new();
//! let vectors = Vectors::open(device, Index::Msix)?;
//! let queue = Trigger::new()?;
//! // No other vector is disturbed, on any host.
//! let vector = vectors.enable(3, &queue)?;
//! // ... wait for `queue` ...
//! drop(vector); // Detaches the vector.
//! # Ok::<(), vfio_irq::Error>(())
//! ```
//!
//! # What holds on every host
//!
//! **All or nothing.** A call that fails leaves every vector as it was. If a request fails in
//! Linux's own driver, the driver detaches the vectors before the failing one. The library then
//! attaches them again. It signals each of them once, since an interrupt in between signalled no
//! eventfd.
//!
//! **No lost interrupt.** A host with NORESIZE (Linux before 6.5) cannot add a vector while
//! others are in use. [`NoResize`] selects the policy for such hosts.
//!
//! The price of both: an eventfd can be signalled without an interrupt. As with a shared
//! interrupt, the driver must check the device first.
//!
//! **Resources are released.** Dropping a [`Vector`] detaches it. Dropping [`Vectors`] disables
//! the index.
//!
//! Identifiers in parentheses, such as (V-08), are clauses of the project's CONTRACT.md. A clause
//! states the answer of a host to the request behind a call.
//!
//! [`Intx`] is INTx. [`Event`] is ERR or REQ, the two interrupts that the host raises.
//! [`msix::MsixTable`] is a guest's MSI-X table, over the routes of a VMM or, with the feature
//! `kvm`, over those of KVM. `ADOPTING.md` shows a whole VMM.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod capabilities;
mod error;
mod event;
mod intx;
#[cfg(feature = "kvm")]
pub mod kvm;
pub mod msix;
#[cfg(feature = "sim")]
pub mod sim;
mod sys;
mod transport;
mod trigger;
mod vectors;
mod vfio_user;

pub use capabilities::Capabilities;
pub use error::{Error, Name, Operation};
pub use event::Event;
pub use intx::Intx;
pub use transport::{Action, Data, Index, Info, KernelDevice, SetIrqs, Transport};
pub use trigger::Trigger;
pub use vectors::{NoResize, Vector, Vectors};

/// The guide. Its code is compiled as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../ADOPTING.md")]
struct Adopting;
pub use vfio_user::in_messages;

/// The client of the protocol, of which [`Transport`] is implemented.
#[cfg(feature = "vfio-user")]
pub use vfio_irq_user;
