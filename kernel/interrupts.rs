// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The interrupts of vfio-pci-core, in Rust.
//!
//! Linux keeps them in one C file, vfio_pci_intrs.c, behind three functions. This crate is built in
//! its place: it defines the three (`sys/exports.rs`) and answers all five indexes with the engine.
//! Locks, power, decoding, close and reset stay the core's. Every driver built on the core has it:
//! vfio-pci itself and the vendors' variant drivers.
//!
//! Unsafe code is allowed in [`sys`] alone.
#![deny(unsafe_code)]

use crate::host::Linux;
use crate::slots::Tree;
use crate::sys::{Core, Intx};
use vfio_irq_engine::abi::{Index, Request};
use vfio_irq_engine::{IrqEngine, Refusal};

mod host;
mod show;
mod slots;
mod sys;

/// What `pr_info!` begins a line with. A module that is all Rust has it from `module!`, which this one
/// cannot use: its other half is C.
const __LOG_PREFIX: &[u8] = b"vfio_pci_core\0";

/// The interrupts of one device, from the request that enables an index to the one that disables it.
/// The core's `igate` guards it.
pub(crate) struct Interrupts {
    device: IrqEngine<Linux>,
    host: Linux,
}

impl Interrupts {
    pub(crate) fn new(core: Core) -> Self {
        Self { device: IrqEngine::new(Tree::new()), host: Linux::new(core) }
    }

    /// Returns the index that is active.
    pub(crate) fn active(&self) -> Option<Index> {
        self.device.active()
    }

    /// Returns INTx, if it is active.
    pub(crate) fn intx(&self) -> Option<&Intx> {
        self.host.intx()
    }

    /// Carries a request out, or refuses it and changes nothing.
    pub(crate) fn set_irqs(&mut self, request: &Request<'_>) -> Result<(), Refusal> {
        let answered = self.device.set_irqs(&mut self.host, request);
        self.host.finish();
        answered
    }
}
