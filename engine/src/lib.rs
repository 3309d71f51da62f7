// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The semantics of VFIO interrupt requests, for any host.
//!
//! User space sends two requests about the interrupts of a PCI device: `VFIO_DEVICE_GET_IRQ_INFO`
//! and `VFIO_DEVICE_SET_IRQS`. This crate implements both, for all five indexes. The crate knows
//! no platform. It is `no_std`, allocates no memory, and has neither dependencies nor unsafe
//! code. Cargo and the kernel's build compile the same files.
//!
//! The life of a request:
//!
//! - [`abi::Header`] holds twenty bytes of user space, none of which is trusted.
//! - [`abi::Header::check`] returns an [`abi::Checked`], which gives the length of the data.
//! - [`abi::Checked::request`] returns an [`abi::Request`], which cannot express an invalid
//!   state.
//! - [`Vectors`] (MSI and MSI-X) or [`IrqEngine`] (all five indexes) *prepares* the request:
//!   every step that can fail. If a step fails, the engine undoes the steps before it in reverse.
//! - The engine *commits* the request: steps that cannot fail.
//!
//! A request that returns an error has therefore changed nothing (`CONTRACT.md`, B-01).
//!
//! A platform implements [`Host`]. A platform with ERR and REQ also implements [`EventHost`], and
//! a platform with INTx implements [`IntxHost`]. The feature `sim` adds a platform in memory,
//! [`sim::Sim`].
#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
// No panic is reachable from a request.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

#[cfg(feature = "sim")]
extern crate std;

pub mod abi;
mod errno;
mod event;
mod host;
mod intx;
mod irq_engine;
#[cfg(feature = "sim")]
pub mod sim;
mod slot;
mod vectors;

pub use errno::{Errno, Refusal};
pub use event::Event;
pub use host::{EventHost, Host, IntxHost, Mask, MsiType, Size};
pub use irq_engine::IrqEngine;
pub use slot::{Counts, Slot, Slots};
pub use vectors::{Totals, Vectors};
