//! The engine's host: how requests change cells of this process.

use super::cell::MaskSource;
use super::line::Outlet;
use super::table::{Done, Table};
use super::trigger::{Eventfds, Trigger};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use vfio_irq_engine::{
    Errno, Event, EventHost, Host, IntxHost, Mask, MsiType, Refusal, Size, Slot, Slots,
};

/// The number of interrupts of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IrqCaps {
    pub(crate) msi: u32,
    pub(crate) msi_maskable: bool,
    pub(crate) msix: u32,
    pub(crate) pin: bool,
}

/// An attached vector.
pub(crate) struct Attached {
    number: u32,
    trigger: Trigger,
}

/// A changed vector that has not settled yet.
struct Changed {
    number: u32,
    /// The detached eventfd; a masked vector keeps its eventfd attached.
    old: Option<Trigger>,
}

/// The host of the engine for one connection.
///
/// A detach or a mask affects raises that begin later. The caller must settle the host after each
/// request, once for all vectors.
pub(crate) struct IrqHost {
    table: Arc<Table>,
    shape: IrqCaps,
    /// The descriptors of the current message, by position.
    fds: Vec<Option<OwnedFd>>,
    /// The vector of the first descriptor.
    first: u32,
    /// The resample eventfd of INTx (`CONTRACT.md`, X-02).
    resample: Option<Trigger>,
    changed: Vec<Changed>,
    /// Detached and settled eventfds, to be closed later.
    spent: Vec<Trigger>,
}

impl IrqHost {
    pub(crate) fn new(table: Arc<Table>, shape: IrqCaps) -> Self {
        Self {
            table,
            shape,
            fds: Vec::new(),
            first: 0,
            resample: None,
            changed: Vec::new(),
            spent: Vec::new(),
        }
    }

    /// Lends the descriptors of a message to a request, whose first vector is `first`.
    pub(crate) fn lend(&mut self, fds: &mut Vec<OwnedFd>, first: u32) {
        self.first = first;
        self.fds.clear();
        self.fds.extend(fds.drain(..).map(Some));
    }

    /// Closes the descriptors that the request did not take.
    pub(crate) fn take_back(&mut self) {
        self.fds.clear();
    }

    /// Waits until all changed vectors have settled. Then masked vectors are not signalled, and
    /// detached eventfds are not used.
    pub(crate) fn settle(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        self.table.settle(self.changed.iter().filter_map(|Changed { number, old }| {
            let cell = self.table.cell(*number)?;
            Some((cell, old.as_ref().map(Trigger::target).or_else(|| cell.target())))
        }));
        self.spent.extend(self.changed.drain(..).filter_map(|changed| changed.old));
    }

    /// Closes the detached eventfds.
    pub(crate) fn close_spent(&mut self) {
        self.spent.clear();
    }

    /// Returns the resample eventfd of INTx.
    pub(crate) fn resample(&self) -> Option<BorrowedFd<'_>> {
        self.resample.as_ref().map(AsFd::as_fd)
    }

    /// Unmasks INTx if the resample eventfd was signalled, and consumes the signal.
    pub(crate) fn serve_resample(&mut self) {
        if self.resample.as_ref().is_some_and(Trigger::drain) {
            self.intx_set_mask(Mask::Unmasked);
        }
    }

    fn take(&mut self, fd: i32) -> Result<OwnedFd, Errno> {
        let place = usize::try_from(fd).ok().and_then(|i| self.fds.get_mut(i));
        place.and_then(Option::take).ok_or(Errno::EBADF)
    }

    fn claim(&mut self, fd: i32) -> Result<Trigger, Errno> {
        self.take(fd).and_then(Trigger::new)
    }

    fn event(&self, event: Event) -> &Outlet {
        match event {
            Event::Err => &self.table.error,
            Event::Req => &self.table.release,
        }
    }
}

/// No raise may use an eventfd that is about to be closed.
impl Drop for IrqHost {
    fn drop(&mut self) {
        self.settle();
        let left = self.table.cells().map(|cell| (cell, cell.target()));
        let left: Vec<_> = left.filter(|(_, eventfd)| eventfd.is_some()).collect();
        if !left.is_empty() {
            left.iter().for_each(|(cell, _)| cell.detach());
            self.table.settle(left.into_iter());
        }
    }
}

/// The attached vectors, in order.
pub(crate) struct Known(BTreeMap<u32, Slot<IrqHost>>);

impl Known {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }
}

impl Slots<Slot<IrqHost>> for Known {
    fn reserve(&mut self, number: u32) -> Result<(), Errno> {
        self.0.insert(number, Slot::default());
        Ok(())
    }

    fn get(&self, number: u32) -> Option<&Slot<IrqHost>> {
        self.0.get(&number)
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut Slot<IrqHost>> {
        self.0.get_mut(&number)
    }

    fn remove(&mut self, number: u32) -> Option<Slot<IrqHost>> {
        self.0.remove(&number)
    }

    fn first_from(&self, number: u32) -> Option<u32> {
        self.0.range(number..).next().map(|(number, _)| *number)
    }
}

impl Host for IrqHost {
    type Trigger = Trigger;
    type Vector = Attached;
    type Slots = Known;

    fn count(&self, kind: MsiType) -> u32 {
        match kind {
            MsiType::Msi => self.shape.msi,
            MsiType::Msix => self.shape.msix,
        }
    }

    fn dynamic(&self, kind: MsiType) -> bool {
        kind == MsiType::Msix
    }

    fn maskable(&self, kind: MsiType) -> bool {
        kind == MsiType::Msix || self.shape.msi_maskable
    }

    fn resolve(&mut self, fd: i32) -> Result<Trigger, Errno> {
        let new = self.take(fd)?;
        let vector = self.first.checked_add_signed(fd);
        // The slot keeps the eventfd open that the cell names. Only this thread changes them.
        match vector.and_then(|vector| self.table.cell(vector)?.target()) {
            Some(attached) => Trigger::beside(new, attached),
            None => Trigger::new(new),
        }
    }

    fn enable(&mut self, kind: MsiType, vectors: u32) -> Result<Size, Refusal> {
        Ok(if self.dynamic(kind) { Size::Dynamic } else { Size::Fixed(vectors) })
    }

    fn disable(&mut self, _: MsiType) {
        // A raise in progress may still set the pending bit.
        self.settle();
        self.table.cells().for_each(super::cell::Cell::clear);
    }

    fn prepare(&mut self, _: MsiType, number: u32, trigger: Trigger) -> Result<Attached, Errno> {
        self.table.ensure(number).ok_or(Errno::ENOSPC)?;
        Ok(Attached { number, trigger })
    }

    fn abandon(&mut self, _: MsiType, _: u32, vector: Attached) {
        drop(vector);
    }

    fn start(&mut self, _: MsiType, number: u32, vector: &mut Attached, mask: Mask) {
        // If the same request detached the vector, the vector must settle first.
        self.settle();
        if let Some(cell) = self.table.cell(number) {
            let masked = Some(mask == Mask::Masked);
            cell.attach(vector.trigger.target(), masked, &Eventfds);
        }
    }

    fn is_up_to_date(
        &mut self,
        _: MsiType,
        _: u32,
        vector: &Attached,
        trigger: &Trigger,
        _: Mask,
    ) -> bool {
        vector.trigger.is(trigger)
    }

    fn retarget(
        &mut self,
        _: MsiType,
        number: u32,
        vector: &mut Attached,
        trigger: Trigger,
        _: Mask,
    ) {
        if let Some(cell) = self.table.cell(number) {
            cell.attach(trigger.target(), None, &Eventfds);
        }
        self.table.count(number, Done::Retarget);
        let old = Some(std::mem::replace(&mut vector.trigger, trigger));
        self.changed.push(Changed { number, old });
    }

    fn stop(&mut self, _: MsiType, number: u32, vector: Attached) {
        if let Some(cell) = self.table.cell(number) {
            cell.detach();
        }
        self.changed.push(Changed { number, old: Some(vector.trigger) });
    }

    fn set_mask(&mut self, _: MsiType, number: u32, _: &mut Attached, mask: Mask) {
        let Some(cell) = self.table.cell(number) else { return };
        let done = match mask {
            Mask::Masked => {
                cell.mask(MaskSource::Request);
                self.changed.push(Changed { number, old: None });
                Done::Mask
            }
            Mask::Unmasked => {
                cell.unmask(MaskSource::Request, &Eventfds);
                Done::Unmask
            }
        };
        self.table.count(number, done);
    }

    fn signal(&mut self, vector: &Attached) {
        self.table.count(vector.number, Done::Loopback);
        vector.trigger.signal();
    }

    fn record_failure(&mut self, number: u32) {
        _ = self.table.ensure(number);
        self.table.count(number, Done::Failure);
    }
}

impl IntxHost for IrqHost {
    fn intx_present(&self) -> bool {
        self.shape.pin
    }

    fn intx_enable(&mut self, trigger: Option<Trigger>) -> Result<(), Errno> {
        self.table.line.enable();
        self.table.line.set_trigger(trigger);
        Ok(())
    }

    fn intx_disable(&mut self) {
        self.resample = None;
        self.table.line.disable();
    }

    fn intx_set_trigger(&mut self, trigger: Option<Trigger>) {
        self.table.line.set_trigger(trigger);
    }

    fn intx_set_mask(&mut self, mask: Mask) {
        self.table.line.set_masked(mask == Mask::Masked);
    }

    fn intx_signal(&mut self) {
        self.table.line.signal();
    }

    fn intx_arm_unmask(&mut self, fd: i32) -> Result<(), Errno> {
        let trigger = self.claim(fd)?;
        if self.resample.is_some() {
            return Err(Errno::EBUSY);
        }
        self.resample = Some(trigger);
        Ok(())
    }

    fn intx_disarm_unmask(&mut self) {
        self.resample = None;
    }
}

impl EventHost for IrqHost {
    fn event_is_set(&self, event: Event) -> bool {
        self.event(event).is_set()
    }

    fn event_set(&mut self, event: Event, trigger: Option<Trigger>) -> Result<(), Errno> {
        self.event(event).set(trigger);
        Ok(())
    }

    fn event_signal(&mut self, event: Event) {
        self.event(event).signal();
    }
}
