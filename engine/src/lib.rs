// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a VFIO interrupt request means.
//!
//! User space asks two things of a PCI device's interrupts: `VFIO_DEVICE_GET_IRQ_INFO` and
//! `VFIO_DEVICE_SET_IRQS`. This crate holds the whole meaning of both, for all five indexes, and
//! nothing of any platform: it is `no_std`, allocates nothing, has no dependencies and no unsafe
//! code. The very same files are compiled by cargo and by the kernel's build.
//!
//! The life of a request:
//!
//! 1. [`abi::Header`]: twenty bytes of user space, believed in nothing;
//! 2. [`abi::Header::check`] makes of them an [`abi::Checked`], which says how much data to read;
//! 3. [`abi::Checked::request`] makes of both a [`abi::Request`], in which a bad state cannot be
//!    written down;
//! 4. [`Vectors`] (MSI and MSI-X) or [`IrqEngine`] (all five indexes) *prepares*: every step that can
//!    fail, undone in reverse if a later one does;
//! 5. and *commits*: steps that cannot fail.
//!
//! A request that is refused has therefore changed nothing (`CONTRACT.md`, rule B-01).
//!
//! What the engine asks of its platform is [`Host`], with [`EventHost`] for platforms that bring ERR
//! and REQ and [`IntxHost`] for those that bring INTx. With the feature `sim` there is a platform that exists only in memory, [`sim::Sim`].
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
