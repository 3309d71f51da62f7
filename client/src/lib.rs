//! Interrupts of a VFIO device, one vector at a time: for VMMs and for drivers in user space.
//!
//! A device that is handed to user space signals its interrupts on eventfds. [`Vectors`] attaches
//! them to the vectors of MSI or MSI-X while the device runs: one, or many at once; re-targets,
//! masks and detaches them; and knows what the host can do. It works alike on
//!
//! - the kernel's VFIO, through a group or a character device ([`KernelDevice`], or rust-vmm's
//!   `VfioDevice` with the feature `vfio-ioctls`),
//! - a vfio-user socket (`Remote`, feature `vfio-user`),
//! - a simulated device (module `sim`, feature `sim`), which most examples here run on.
//!
//! ```
//! use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
//!
//! let device = Simulated::new();
//! let vectors = Vectors::open(device, Index::Msix)?;
//! let queue = Trigger::new()?;
//! // The other vectors do not notice, on any host.
//! let vector = vectors.enable(3, &queue)?;
//! // ... wait for `queue` ...
//! drop(vector); // detached
//! # Ok::<(), vfio_irq::Error>(())
//! ```
//!
//! # What holds on every host
//!
//! **All or nothing.** A call that fails leaves every vector as it was. Linux's own driver kills the
//! vectors before the failing one; there the library attaches them again and signals each of them
//! once, since an interrupt in between had nowhere to go.
//!
//! **Nothing is lost.** Hosts that say NORESIZE (Linux before 6.5) cannot add a vector to those in
//! use. [`NoResize`] says what is done there.
//!
//! The price of both: an eventfd may be signalled without an interrupt, so look before you act, as
//! with every interrupt that is shared.
//!
//! **What goes is given back.** Dropping a [`Vector`] detaches it, dropping [`Vectors`] disables.
//!
//! Identifiers in brackets, as (V-08), are rules of the project's CONTRACT.md: what a host answers to
//! the request behind a call, and on which hosts.
//!
//! INTx is [`Line`]; the host's own two interrupts, ERR and REQ, are [`Event`]. With the feature
//! `kvm`, `kvm::MsixTable` is a guest's MSI-X table. `ADOPTING.md` shows a whole VMM.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod capabilities;
mod error;
mod event;
#[cfg(feature = "kvm")]
pub mod kvm;
mod line;
#[cfg(feature = "vfio-user")]
mod remote;
#[cfg(feature = "sim")]
pub mod sim;
mod sys;
mod transport;
mod trigger;
mod vectors;

pub use capabilities::Capabilities;
pub use error::{Error, Name, What};
pub use event::Event;
pub use line::Line;
#[cfg(feature = "vfio-user")]
pub use remote::{IrqSocket, Message, Remote};
pub use transport::{Action, Data, Index, Info, KernelDevice, SetIrqs, Transport};
pub use trigger::Trigger;
pub use vectors::{NoResize, Vector, Vectors};

/// The guide, whose code is compiled.
#[cfg(doctest)]
#[doc = include_str!("../ADOPTING.md")]
struct Adopting;
