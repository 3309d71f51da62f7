// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `vfio-pci-rs`: a VFIO driver whose MSI and MSI-X are the engine's.
//!
//! It is a variant driver over vfio-pci-core. GET_IRQ_INFO and SET_IRQS of MSI and MSI-X are answered
//! here, and SET_IRQS of ERR and REQ; the rest of the device (regions, configuration space, INTx,
//! resets, power states, SR-IOV) stays with the core. A device is bound by its `driver_override`; no other device
//! of the machine notices.
//!
//! Unsafe code is allowed in [`sys`] alone.
#![deny(unsafe_code)]

use kernel::prelude::*;
use sys::Module;

mod host;
mod slots;
mod state;
mod sys;
mod table;

module! {
    type: Module,
    name: "vfio_pci_rs",
    authors: ["The vfio-irq authors"],
    description: "VFIO PCI driver with MSI and MSI-X vectors allocated at run time",
    license: "Dual MIT/GPL",
    params: {
        free_on_detach: u8 {
            default: 0,
            description: "1: give the interrupt of a detached MSI-X vector back at once (default 0: keep it until the index is disabled, as vfio-pci does)",
        },
        always_offer_bypass: u8 {
            default: 0,
            description: "1: offer interrupts to KVM (irq bypass) even where the machine cannot post interrupts to a guest (default 0: only where it can)",
        },
        enable_sriov: u8 {
            default: 0,
            description: "1: allow virtual functions of devices that are bound here (default 0)",
        },
        disable_idle_d3: u8 {
            default: 0,
            description: "1: leave devices that nobody uses in D0 (default 0: they sleep in D3)",
        },
        nointxmask: u8 {
            default: 0,
            description: "1: do not use the PCI 2.3 way of masking INTx (default 0: use it where the device can)",
        },
        disable_denylist: u8 {
            default: 0,
            description: "1: allow devices that are known to endanger the host (default 0)",
        },
    },
}
