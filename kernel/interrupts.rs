// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The interrupts of vfio-pci-core, in Rust.
//!
//! Linux has them in one C file, vfio_pci_intrs.c, behind three functions. This crate replaces that
//! file. It defines the three functions (`exports.rs`) and executes requests for all five indexes
//! with the engine. Locks, power management, decoding, close and reset stay the core's. Every
//! driver on top of the core gets this: vfio-pci itself, and the vendors' variant drivers.
//!
//! Unsafe code is allowed in [`sys`], and in `exports.rs`, which C calls.
#![deny(unsafe_code)]

use crate::host::Linux;
use crate::slots::Tree;
use crate::sys::{CoreDevice, Intx};
use vfio_irq_engine::abi::{Index, Request};
use vfio_irq_engine::{IrqEngine, Refusal, Vectors};

mod exports;
mod host;
mod irq_name;
mod show;
mod slots;
mod sys;

/// The prefix of each line of `pr_info!`. The macro `module!` defines it for modules in Rust alone.
/// This module has its `module_init` in C, so it cannot use that macro.
const __LOG_PREFIX: &[u8] = b"vfio_pci_core\0";

/// The interrupts of one device, from the request that enables an index to the one that disables
/// it.
///
/// # Locks
///
/// `igate` guards it. The core closes a device under the lock of the device set alone.
pub(crate) struct Interrupts {
    engine: IrqEngine<Linux>,
    host: Linux,
}

impl Interrupts {
    pub(crate) fn new(vdev: CoreDevice) -> Self {
        Self { engine: IrqEngine::new(Tree::new()), host: Linux::new(vdev) }
    }

    /// Returns the active index.
    pub(crate) fn active(&self) -> Option<Index> {
        self.engine.active()
    }

    /// Returns INTx, or `None` if it is not active.
    pub(crate) fn intx(&self) -> Option<&Intx> {
        self.host.intx()
    }

    /// Returns the state of MSI and MSI-X.
    pub(crate) fn vectors(&self) -> &Vectors<Linux> {
        self.engine.vectors()
    }

    /// Returns the number of signals of the vectors that were detached.
    pub(crate) fn gone_signals(&self) -> u64 {
        self.host.gone_signals()
    }

    /// Executes a request. A request that returns an error has changed nothing.
    pub(crate) fn set_irqs(&mut self, request: &Request<'_>) -> Result<(), Refusal> {
        let result = self.engine.set_irqs(&mut self.host, request);
        self.host.finish();
        result
    }
}
