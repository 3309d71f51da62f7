// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The five indexes of one device. At most one of INTx, MSI and MSI-X is active.

use crate::abi::{flags, Checked, Header, Index, Info, Request};
use crate::intx::Intx;
use crate::{Errno, Event, EventHost, IntxHost, MsiType, Refusal, Vectors};

/// The interrupts of a device on a platform that implements all five indexes.
///
/// ```
/// use vfio_irq_engine::abi::{flags, Header};
/// use vfio_irq_engine::{sim::Sim, IrqEngine};
///
/// let mut sim = Sim::new();
/// let fd = sim.eventfd();
/// let mut engine = IrqEngine::new(sim.slots());
///
/// // Attach the eventfd to vector 5 of MSI-X, with header and data as user space sends them.
/// let header = Header {
///     argsz: 24,
///     flags: flags::DATA_EVENTFD | flags::ACTION_TRIGGER,
///     index: 2,
///     start: 5,
///     count: 1,
/// };
/// let checked = engine.check(&sim, header)?;
/// let data = fd.to_ne_bytes();
/// let request = checked.request(&data)?;
/// engine.set_irqs(&mut sim, &request)?;
///
/// sim.raise(5);
/// assert_eq!(sim.signals(fd), 1);
/// # Ok::<(), vfio_irq_engine::Refusal>(())
/// ```
pub struct IrqEngine<H: IntxHost + EventHost> {
    vectors: Vectors<H>,
    intx: Intx,
}

impl<H: IntxHost + EventHost> IrqEngine<H> {
    /// Returns an engine with every index disabled. `slots` is an empty map of the platform,
    /// which holds the state of each vector.
    pub fn new(slots: H::Slots) -> Self {
        Self { vectors: Vectors::new(slots), intx: Intx::default() }
    }

    /// Returns the state of MSI and MSI-X.
    pub fn vectors(&self) -> &Vectors<H> {
        &self.vectors
    }

    /// Returns which of INTx, MSI and MSI-X is active.
    pub fn active(&self) -> Option<Index> {
        match self.vectors.active() {
            Some(MsiType::Msi) => Some(Index::Msi),
            Some(MsiType::Msix) => Some(Index::Msix),
            None => self.intx.is_active().then_some(Index::Intx),
        }
    }

    /// Returns the answer to GET_IRQ_INFO (`CONTRACT.md`, I-03 to I-07).
    pub fn info(&self, host: &H, index: Index) -> Info {
        match index {
            Index::Intx => Info {
                flags: flags::INFO_EVENTFD | flags::INFO_MASKABLE | flags::INFO_AUTOMASKED,
                count: u32::from(host.intx_present()),
            },
            Index::Msi => Vectors::info(host, MsiType::Msi),
            Index::Msix => Vectors::info(host, MsiType::Msix),
            Index::Err | Index::Req => {
                Info { flags: flags::INFO_EVENTFD | flags::INFO_NORESIZE, count: 1 }
            }
        }
    }

    /// Checks a header against this device. Returns the checked header.
    ///
    /// # Errors
    ///
    /// `EINVAL` if any check fails (`CONTRACT.md`, C-01 to C-08).
    pub fn check(&self, host: &H, header: Header) -> Result<Checked, Errno> {
        header.check(self.info(host, header.index()?).count)
    }

    /// Executes a request. A request that returns an error has changed nothing (`CONTRACT.md`,
    /// B-01).
    ///
    /// # Errors
    ///
    /// As in `CONTRACT.md`: C-10, X-01 to X-06, V-01 to V-10, E-01 to E-05 and B-04.
    pub fn set_irqs(&mut self, host: &mut H, request: &Request<'_>) -> Result<(), Refusal> {
        match request.index() {
            Index::Intx => {
                let msi_active = self.vectors.active().is_some();
                Ok(self.intx.set_irqs(host, request, msi_active)?)
            }
            Index::Msi | Index::Msix => self.vectors.set_irqs(host, request, self.intx.is_active()),
            Index::Err => Ok(Event::Err.set_irqs(host, request)?),
            Index::Req => Ok(Event::Req.set_irqs(host, request)?),
        }
    }

    /// Disables every index and clears ERR and REQ. All resources return to the platform.
    pub fn close(&mut self, host: &mut H) {
        self.vectors.disable(host);
        self.intx.disable(host);
        for event in [Event::Err, Event::Req] {
            // Clearing cannot fail.
            let _ = host.event_set(event, None);
        }
    }
}
