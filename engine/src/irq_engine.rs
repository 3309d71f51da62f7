// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! All five indexes of one device, and that no two of INTx, MSI and MSI-X are ever in use at once.

use crate::abi::{flags, Checked, Header, Index, Info, Request};
use crate::intx::Intx;
use crate::{Errno, Event, EventHost, IntxHost, MsiType, Refusal, Vectors};

/// The interrupts of a device whose platform brings all of them.
///
/// ```
/// # #[cfg(feature = "sim")] fn main() -> Result<(), vfio_irq_engine::Refusal> {
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
/// # Ok(()) }
/// # #[cfg(not(feature = "sim"))] fn main() {}
/// ```
pub struct IrqEngine<H: IntxHost + EventHost> {
    vectors: Vectors<H>,
    line: Intx,
}

impl<H: IntxHost + EventHost> IrqEngine<H> {
    /// Nothing enabled; `slots` is where the platform keeps what is known of vectors, empty.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, IrqEngine};
    ///
    /// let sim = Sim::new();
    /// let device: IrqEngine<Sim> = IrqEngine::new(sim.slots());
    /// assert_eq!(device.active(), None);
    /// ```
    pub fn new(slots: H::Slots) -> Self {
        Self { vectors: Vectors::new(slots), line: Intx::default() }
    }

    /// MSI and MSI-X.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 5, &[fd])?;
    /// // What debugfs or a monitor shows of it.
    /// let attached: Vec<u32> = device.vectors().slots().map(|(number, _)| number).collect();
    /// assert_eq!(attached, [5]);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn vectors(&self) -> &Vectors<H> {
        &self.vectors
    }

    /// Which of INTx, MSI and MSI-X is in use.
    ///
    /// ```
    /// use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msi, 0, &[fd])?;
    /// assert_eq!(device.active(), Some(Index::Msi));
    /// // One index at a time (V-02).
    /// assert!(attach(&mut device, &mut sim, Index::Msix, 0, &[fd]).is_err());
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn active(&self) -> Option<Index> {
        match self.vectors.active() {
            Some(MsiType::Msi) => Some(Index::Msi),
            Some(MsiType::Msix) => Some(Index::Msix),
            None => self.line.is_active().then_some(Index::Intx),
        }
    }

    /// The answer to GET_IRQ_INFO (`CONTRACT.md`, I-03 to I-07).
    ///
    /// ```
    /// use vfio_irq_engine::abi::{flags, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let line = device.info(&sim, Index::Intx);
    /// assert_eq!(line.count, 1);
    /// assert_ne!(line.flags & flags::INFO_AUTOMASKED, 0);
    /// // MSI is enabled as a set: none can be added.
    /// assert_ne!(device.info(&sim, Index::Msi).flags & flags::INFO_NORESIZE, 0);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
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
    ///
    /// ```
    /// # use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::{abi::Header, Errno};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// // Of this device's 64 vectors, 0 to 63.
    /// assert!(device.check(&sim, Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 2, 63, 1])).is_ok());
    /// let beyond = device.check(&sim, Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 2, 64, 1]));
    /// assert_eq!(beyond, Err(Errno::EINVAL));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn check(&self, host: &H, header: Header) -> Result<Checked, Errno> {
        header.check(self.info(host, header.index()?).count)
    }

    /// Carries a request out, or refuses it and changes nothing.
    ///
    /// # Errors
    ///
    /// As in `CONTRACT.md`: C-10, X, V, E and B.
    ///
    /// ```
    /// use vfio_irq_engine::{Errno, Refusal};
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fds = [sim.eventfd(), sim.other_file()];
    /// let before = sim.visible();
    /// // The second descriptor is no eventfd, so the first vector is not attached either (B-01).
    /// let refused = attach(&mut device, &mut sim, Index::Msix, 0, &fds);
    /// assert_eq!(refused, Err(Refusal::Errno(Errno::EINVAL)));
    /// assert_eq!(sim.visible(), before);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
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
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// attach(&mut device, &mut sim, Index::Err, 0, &[fd])?;
    /// device.close(&mut sim);
    /// assert_eq!(sim.leaks(), None);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn close(&mut self, host: &mut H) {
        self.vectors.disable(host);
        self.line.disable(host);
        for event in [Event::Err, Event::Req] {
            // Clearing cannot fail.
            let _ = host.event_set(event, None);
        }
    }
}
