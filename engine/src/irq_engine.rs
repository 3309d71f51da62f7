// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! All five indexes of one device, and that no two of INTx, MSI and MSI-X are ever in use at once.

use crate::abi::{flags, Checked, Header, Index, Info, Request};
use crate::intx::Intx;
use crate::{Errno, Event, EventHost, IntxHost, MsiType, Refusal, Vectors};

/// The interrupts of a device whose platform brings all of them.
///
/// ```
/// use vfio_irq_engine::abi::{flags, Header};
/// use vfio_irq_engine::{sim::Sim, IrqEngine};
///
/// let mut sim = Sim::new();
/// let fd = sim.eventfd();
/// let mut device = IrqEngine::new(sim.slots());
///
/// // Attach the eventfd to vector 5 of MSI-X: header and data as user space sends them.
/// let header = Header {
///     argsz: 24,
///     flags: flags::DATA_EVENTFD | flags::ACTION_TRIGGER,
///     index: 2,
///     start: 5,
///     count: 1,
/// };
/// let checked = device.check(&sim, header)?;
/// let data = fd.to_ne_bytes();
/// let request = checked.request(&data)?;
/// device.set_irqs(&mut sim, &request)?;
///
/// sim.raise(5);
/// assert_eq!(sim.signals(fd), 1);
/// # Ok::<(), vfio_irq_engine::Refusal>(())
/// ```
pub struct IrqEngine<H: IntxHost + EventHost> {
    vectors: Vectors<H>,
    line: Intx,
}

impl<H: IntxHost + EventHost> IrqEngine<H> {
    /// Nothing enabled; `slots` is where the platform keeps what is known of vectors, empty.
    pub fn new(slots: H::Slots) -> Self {
        Self { vectors: Vectors::new(slots), line: Intx::default() }
    }

    /// MSI and MSI-X.
    pub fn vectors(&self) -> &Vectors<H> {
        &self.vectors
    }

    /// Which of INTx, MSI and MSI-X is in use.
    pub fn active(&self) -> Option<Index> {
        match self.vectors.active() {
            Some(MsiType::Msi) => Some(Index::Msi),
            Some(MsiType::Msix) => Some(Index::Msix),
            None => self.line.is_active().then_some(Index::Intx),
        }
    }

    /// The answer to GET_IRQ_INFO (`CONTRACT.md`, I-03 to I-07).
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

    /// Checks a header against this device (`CONTRACT.md`, C-01 to C-08).
    ///
    /// # Errors
    ///
    /// `EINVAL`, whatever is wrong.
    pub fn check(&self, host: &H, header: Header) -> Result<Checked, Errno> {
        header.check(self.info(host, header.index()?).count)
    }

    /// Carries a request out, or refuses it and changes nothing.
    ///
    /// # Errors
    ///
    /// As in `CONTRACT.md`: C-10, X, V, E and B.
    pub fn set_irqs(&mut self, host: &mut H, request: &Request<'_>) -> Result<(), Refusal> {
        match request.index() {
            Index::Intx => {
                let elsewhere = self.vectors.active().is_some();
                Ok(self.line.set_irqs(host, request, elsewhere)?)
            }
            Index::Msi | Index::Msix => self.vectors.set_irqs(host, request, self.line.is_active()),
            Index::Err => Ok(Event::Err.set_irqs(host, request)?),
            Index::Req => Ok(Event::Req.set_irqs(host, request)?),
        }
    }

    /// The device is closed: everything goes back to the platform.
    pub fn close(&mut self, host: &mut H) {
        self.vectors.disable(host);
        self.line.disable(host);
        for event in [Event::Err, Event::Req] {
            // Clearing cannot fail.
            let _ = host.event_set(event, None);
        }
    }
}
