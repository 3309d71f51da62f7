// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! MSI and MSI-X: a request from the first check to the last commit.

mod attach;
mod mask;

use crate::abi::{flags, Action, Data, Index, Info, Range, Request};
use crate::slot::Attachment;
use crate::{Counts, Errno, Host, MsiType, Refusal, Size, Slot, Slots};

/// Counts of the device as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Requests that succeeded.
    pub requests: u64,
    /// Requests that were refused. None of them changed anything.
    pub refused: u64,
    /// Times that an index was enabled.
    pub enables: u64,
    /// Times that an index was disabled.
    pub disables: u64,
    /// Vectors that were attached.
    pub attaches: u64,
    /// Vectors that were detached.
    pub detaches: u64,
    /// Sum of the counts of removed slots.
    pub gone: Counts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Idle,
    Active { msi_type: MsiType, size: Size },
}

/// MSI and MSI-X of one device.
///
/// Each call takes the platform as an argument. The platform can therefore borrow resources for
/// the time of one request.
///
/// ```
/// use vfio_irq_engine::abi::flags::*;
/// use vfio_irq_engine::{abi::Header, sim::Sim, MsiType, Vectors};
///
/// // For a platform that implements INTx, ERR and REQ itself.
/// let mut sim = Sim::new();
/// let mut vectors: Vectors<Sim> = Vectors::new(sim.slots());
/// let data = sim.eventfd().to_ne_bytes();
/// let header = Header::from_words([24, DATA_EVENTFD | ACTION_TRIGGER, 2, 0, 1]);
/// let checked = header.check(Vectors::info(&sim, MsiType::Msix).count)?;
/// vectors.set_irqs(&mut sim, &checked.request(&data)?, false)?;
/// assert_eq!(vectors.active(), Some(MsiType::Msix));
/// # Ok::<(), vfio_irq_engine::Refusal>(())
/// ```
pub struct Vectors<H: Host> {
    mode: Mode,
    slots: H::Slots,
    totals: Totals,
}

impl<H: Host> Vectors<H> {
    /// Returns the state of a device with both indexes disabled. `slots` is an empty map of the
    /// platform.
    pub fn new(slots: H::Slots) -> Self {
        Self { mode: Mode::Idle, slots, totals: Totals::default() }
    }

    /// Returns which of MSI and MSI-X is enabled.
    pub fn active(&self) -> Option<MsiType> {
        match self.mode {
            Mode::Idle => None,
            Mode::Active { msi_type, .. } => Some(msi_type),
        }
    }

    /// Returns the counts of the device.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Returns the slot of a vector, or `None` if the vector is neither attached nor masked.
    pub fn slot(&self, number: u32) -> Option<&Slot<H>> {
        self.slots.get(number)
    }

    /// Returns the vectors that have a slot, in order, with their slots.
    pub fn slots(&self) -> impl Iterator<Item = (u32, &Slot<H>)> {
        let mut from = Some(0_u32);
        core::iter::from_fn(move || {
            let number = self.slots.first_from(from?)?;
            from = number.checked_add(1);
            Some((number, self.slots.get(number)?))
        })
    }

    /// Returns the answer to GET_IRQ_INFO (`CONTRACT.md`, I-04, I-05 and I-07).
    pub fn info(host: &H, msi_type: MsiType) -> Info {
        let mut bits = flags::INFO_EVENTFD;
        if host.maskable(msi_type) {
            bits |= flags::INFO_MASKABLE;
        }
        if !host.dynamic(msi_type) {
            bits |= flags::INFO_NORESIZE;
        }
        Info { flags: bits, count: host.count(msi_type) }
    }

    /// Executes a request for MSI or MSI-X. A request that returns an error has changed nothing.
    ///
    /// `intx_active` is true if INTx is active, which excludes MSI and MSI-X (`CONTRACT.md`, V-02).
    ///
    /// # Errors
    ///
    /// As in `CONTRACT.md`, V-01 to V-10, B-03 and B-04. `ENOTTY` if the index is neither MSI nor
    /// MSI-X.
    pub fn set_irqs(
        &mut self,
        host: &mut H,
        request: &Request<'_>,
        intx_active: bool,
    ) -> Result<(), Refusal> {
        let outcome = match request.index() {
            Index::Msi => self.dispatch(host, MsiType::Msi, request, intx_active),
            Index::Msix => self.dispatch(host, MsiType::Msix, request, intx_active),
            _ => Err(Errno::ENOTTY.into()),
        };
        let count =
            if outcome.is_ok() { &mut self.totals.requests } else { &mut self.totals.refused };
        *count = count.wrapping_add(1);
        outcome
    }

    fn dispatch(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        request: &Request<'_>,
        intx_active: bool,
    ) -> Result<(), Refusal> {
        let range = request.range();
        match request.action() {
            Action::Mask => Ok(self.mask(host, msi_type, range, request.data())?),
            Action::Unmask => Ok(self.unmask(host, msi_type, range, request.data())?),
            Action::Trigger => self.trigger(host, msi_type, range, request.data(), intx_active),
        }
    }

    fn trigger(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        range: Range,
        data: Data<'_>,
        intx_active: bool,
    ) -> Result<(), Refusal> {
        match (self.mode, data) {
            (Mode::Active { msi_type: active, .. }, _) if active != msi_type => {
                Err(Errno::EINVAL.into())
            }
            (Mode::Active { .. }, Data::None) if range.count() == 0 => {
                self.disable(host);
                Ok(())
            }
            (Mode::Active { size, .. }, Data::Eventfd(fds)) => {
                Ok(self.attach(host, msi_type, size, range, fds)?)
            }
            (Mode::Active { .. }, Data::None | Data::Bool(_)) => {
                self.each_selected_slot(range, data, |vectors, n| vectors.loopback(host, n));
                Ok(())
            }
            (Mode::Idle, Data::Eventfd(fds)) if !intx_active => {
                self.enable(host, msi_type, range, fds)
            }
            (Mode::Idle, _) => Err(Errno::EINVAL.into()),
        }
    }

    /// Disables the active index, if any, for a DISABLE request, a close or an unbind. The masks
    /// of all vectors are cleared (`CONTRACT.md`, V-03).
    pub fn disable(&mut self, host: &mut H) {
        let Mode::Active { msi_type, .. } = self.mode else { return };
        let mut from = 0;
        while let Some(number) = self.slots.first_from(from) {
            self.empty(host, msi_type, number);
            // A table has 2048 entries at most, so the sum never saturates.
            from = number.saturating_add(1);
        }
        host.disable(msi_type);
        self.mode = Mode::Idle;
        self.totals.disables = self.totals.disables.wrapping_add(1);
    }

    /// Removes a slot and releases its attachment.
    fn empty(&mut self, host: &mut H, msi_type: MsiType, number: u32) {
        let Some(slot) = self.slots.remove(number) else { return };
        self.totals.gone.add(&slot.counts);
        match slot.attachment {
            Attachment::Attached { vector, .. } => {
                // The disable of the index frees the interrupt.
                host.stop(msi_type, number, vector);
                self.totals.detaches = self.totals.detaches.wrapping_add(1);
            }
            Attachment::Staged(vector) => host.abandon(msi_type, number, vector),
            Attachment::Nothing => {}
        }
    }

    /// Calls `act` for each vector of the range that has a slot and is selected.
    #[inline]
    fn each_selected_slot(
        &mut self,
        range: Range,
        data: Data<'_>,
        mut act: impl FnMut(&mut Self, u32),
    ) {
        if range.count() == 1 {
            // The usual request has one vector and needs no search for the next.
            if data.selects(0) {
                act(self, range.start());
            }
            return;
        }
        let mut from = range.start();
        while let Some(number) = self.slots.first_from(from).filter(|n| *n < range.end()) {
            if data.selects(number.saturating_sub(range.start()) as usize) {
                act(self, number);
            }
            from = number.saturating_add(1);
        }
    }

    /// Signals the trigger of a vector, if it is attached.
    #[inline]
    fn loopback(&mut self, host: &mut H, number: u32) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        if let Attachment::Attached { vector, .. } = &slot.attachment {
            host.signal(vector);
            slot.counts.loopbacks = slot.counts.loopbacks.wrapping_add(1);
        }
    }

    /// Removes a slot that is vacant.
    fn prune(&mut self, number: u32) {
        if self.slots.get(number).is_some_and(Slot::is_vacant) {
            if let Some(slot) = self.slots.remove(number) {
                self.totals.gone.add(&slot.counts);
            }
        }
    }

    /// Reserves a slot for a vector that has none. Returns ENOMEM if that fails.
    fn ensure_slot(&mut self, number: u32) -> Result<(), Errno> {
        match self.slots.get(number) {
            Some(_) => Ok(()),
            None => self.slots.reserve(number),
        }
    }

    /// Records that a request was refused because of this vector.
    fn record_failure(&mut self, host: &mut H, number: u32) {
        host.record_failure(number);
        let counts = match self.slots.get_mut(number) {
            Some(slot) => &mut slot.counts,
            None => &mut self.totals.gone,
        };
        counts.failures = counts.failures.wrapping_add(1);
    }
}
