// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The interrupts of one device, behind one lock.
//!
//! The lock is taken by every SET_IRQS, by the work behind watches that fire, and around what the
//! core does for user space that could change the device's power, command register or capabilities.
//! It comes before the core's `memory_lock`, which is held for reading while interrupts are
//! allocated and the device's registers are touched: a reset through another device of the set is
//! refused meanwhile.

use crate::host::{Linux, Policy};
use crate::slots::Tree;
use crate::sys::{Core, Retired, Watch};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Mutex};
use vfio_irq_engine::abi::{Index, Info, Request};
use vfio_irq_engine::{Errno, Event, Gate, Kind, Refusal, Vectors};

pub(crate) struct State {
    pub(crate) vectors: Vectors<Linux>,
    pub(crate) host: Linux,
}

/// What to do with a request once its turn has come.
pub(crate) enum Turn {
    /// It was carried out, or refused.
    Done(Result<(), Refusal>),
    /// It is the core's.
    Core,
}

impl State {
    pub(crate) fn new(core: Core, policy: Policy) -> impl PinInit<Mutex<Self>> {
        new_mutex!(
            Self { vectors: Vectors::new(Tree::new()), host: Linux::new(core, policy) },
            "vfio-pci-rs"
        )
    }

    /// The answer to GET_IRQ_INFO, where it is not the core's.
    pub(crate) fn info(&self, index: Index) -> Option<Info> {
        match index {
            Index::Msi => Some(Vectors::info(&self.host, Kind::Msi)),
            Index::Msix => Some(Vectors::info(&self.host, Kind::Msix)),
            Index::Intx | Index::Err | Index::Req => None,
        }
    }

    /// Carries a request out.
    ///
    /// While MSI or MSI-X is active the core is not asked at all: it reads the request from user
    /// space a second time, and what stands there then may be another request.
    pub(crate) fn set_irqs(&mut self, request: &Request<'_>) -> Turn {
        let idle = self.vectors.active().is_none();
        match (request.index(), Event::from_index(request.index())) {
            (_, Some(event)) => {
                Turn::Done(event.set_irqs(&mut self.host, request).map_err(Refusal::from))
            }
            (Index::Intx, _) if idle => Turn::Core,
            // INTx is not active, and cannot be.
            (Index::Intx, _) => Turn::Done(Err(Errno::EINVAL.into())),
            _ => {
                let elsewhere = idle && self.host.core().in_use();
                Turn::Done(self.vectors.set_irqs(&mut self.host, request, elsewhere))
            }
        }
    }

    /// An eventfd was signalled that masks or unmasks a vector.
    pub(crate) fn watch_fired(&mut self, number: u32, gate: Gate, is: impl FnOnce(&Watch) -> bool) {
        self.vectors.watch_fired(&mut self.host, number, gate, is);
        self.host.settle();
    }

    /// The device is closed: everything goes back.
    #[must_use = "what is returned is dropped without the lock"]
    pub(crate) fn close(&mut self) -> Retired {
        self.vectors.disable(&mut self.host);
        self.host.settle();
        self.host.retired()
    }
}
