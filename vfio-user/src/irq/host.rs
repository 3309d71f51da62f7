//! The engine's host: how requests change the interrupts of this process.

use super::device_irqs::{DeviceIrqs, EventTrigger};
use super::trigger::Trigger;
use super::vector::{MaskSource, Vector};
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
    trigger: Arc<Trigger>,
}

/// The host of the engine for one connection.
pub(crate) struct IrqHost {
    irqs: Arc<DeviceIrqs>,
    caps: IrqCaps,
    /// The descriptors of the current message, by position.
    fds: Vec<Option<OwnedFd>>,
    /// The resample eventfd of INTx (`CONTRACT.md`, X-02).
    resample: Option<Trigger>,
    /// Detached eventfds. They are closed after the reply is sent, so that the client does not wait
    /// for `close(2)`.
    detached: Vec<Arc<Trigger>>,
}

impl IrqHost {
    pub(crate) fn new(irqs: Arc<DeviceIrqs>, caps: IrqCaps) -> Self {
        Self { irqs, caps, fds: Vec::new(), resample: None, detached: Vec::new() }
    }

    /// Lends the descriptors of a message to a request.
    pub(crate) fn lend(&mut self, fds: &mut Vec<OwnedFd>) {
        self.fds.clear();
        self.fds.extend(fds.drain(..).map(Some));
    }

    /// Closes the descriptors that the request did not take.
    pub(crate) fn take_back(&mut self) {
        self.fds.clear();
    }

    /// Closes the detached eventfds.
    pub(crate) fn close_detached(&mut self) {
        self.detached.clear();
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

    fn take(&mut self, position: i32) -> Result<Trigger, Errno> {
        let position = usize::try_from(position).ok().and_then(|i| self.fds.get_mut(i));
        Trigger::new(position.and_then(Option::take).ok_or(Errno::EBADF)?)
    }

    fn event(&self, event: Event) -> &EventTrigger {
        match event {
            Event::Err => &self.irqs.err,
            Event::Req => &self.irqs.req,
        }
    }
}

/// The slots of the attached or masked vectors, in order.
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
    type Trigger = Arc<Trigger>;
    type Vector = Attached;
    type Slots = Known;

    fn count(&self, msi_type: MsiType) -> u32 {
        match msi_type {
            MsiType::Msi => self.caps.msi,
            MsiType::Msix => self.caps.msix,
        }
    }

    fn dynamic(&self, msi_type: MsiType) -> bool {
        msi_type == MsiType::Msix
    }

    fn maskable(&self, msi_type: MsiType) -> bool {
        msi_type == MsiType::Msix || self.caps.msi_maskable
    }

    fn resolve(&mut self, position: i32) -> Result<Arc<Trigger>, Errno> {
        self.take(position).map(Arc::new)
    }

    fn enable(&mut self, msi_type: MsiType, vectors: u32) -> Result<Size, Refusal> {
        Ok(if self.dynamic(msi_type) { Size::Dynamic } else { Size::Fixed(vectors) })
    }

    fn disable(&mut self, _: MsiType) {
        self.irqs.used().for_each(Vector::disable);
    }

    fn prepare(
        &mut self,
        _: MsiType,
        number: u32,
        trigger: Arc<Trigger>,
    ) -> Result<Attached, Errno> {
        self.irqs.ensure(number).ok_or(Errno::ENOSPC)?;
        Ok(Attached { number, trigger })
    }

    fn abandon(&mut self, _: MsiType, _: u32, vector: Attached) {
        drop(vector);
    }

    fn start(&mut self, _: MsiType, number: u32, attached: &mut Attached, mask: Mask) {
        if let Some(vector) = self.irqs.vector(number) {
            vector.attach(Arc::clone(&attached.trigger), mask == Mask::Masked);
        }
    }

    fn is_up_to_date(
        &mut self,
        _: MsiType,
        _: u32,
        attached: &Attached,
        trigger: &Arc<Trigger>,
        _: Mask,
    ) -> bool {
        attached.trigger.is(trigger)
    }

    fn retarget(
        &mut self,
        _: MsiType,
        number: u32,
        attached: &mut Attached,
        trigger: Arc<Trigger>,
        _: Mask,
    ) {
        attached.trigger = Arc::clone(&trigger);
        let old = self.irqs.vector(number).and_then(|vector| vector.retarget(trigger));
        self.detached.extend(old);
    }

    fn stop(&mut self, _: MsiType, number: u32, attached: Attached) {
        drop(attached);
        self.detached.extend(self.irqs.vector(number).and_then(Vector::detach));
    }

    fn set_mask(&mut self, _: MsiType, number: u32, _: &mut Attached, mask: Mask) {
        let Some(vector) = self.irqs.vector(number) else { return };
        vector.set_mask(MaskSource::Request, mask == Mask::Masked);
        vector.count(|counts| match mask {
            Mask::Masked => counts.masks += 1,
            Mask::Unmasked => counts.unmasks += 1,
        });
    }

    fn signal(&mut self, attached: &Attached) {
        if let Some(vector) = self.irqs.vector(attached.number) {
            vector.count(|counts| counts.loopbacks += 1);
        }
        attached.trigger.signal();
    }

    fn record_failure(&mut self, number: u32) {
        if let Some(vector) = self.irqs.ensure(number) {
            vector.count(|counts| counts.failures += 1);
        }
    }
}

impl IntxHost for IrqHost {
    fn intx_present(&self) -> bool {
        self.caps.pin
    }

    fn intx_enable(&mut self, trigger: Option<Arc<Trigger>>) -> Result<(), Errno> {
        self.irqs.intx.enable(trigger);
        Ok(())
    }

    fn intx_disable(&mut self) {
        self.resample = None;
        self.irqs.intx.disable();
    }

    fn intx_set_trigger(&mut self, trigger: Option<Arc<Trigger>>) {
        self.irqs.intx.set_trigger(trigger);
    }

    fn intx_set_mask(&mut self, mask: Mask) {
        self.irqs.intx.set_masked(mask == Mask::Masked);
    }

    fn intx_signal(&mut self) {
        self.irqs.intx.signal();
    }

    fn intx_arm_unmask(&mut self, position: i32) -> Result<(), Errno> {
        let trigger = self.take(position)?;
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

    fn event_set(&mut self, event: Event, trigger: Option<Arc<Trigger>>) -> Result<(), Errno> {
        self.event(event).set(trigger);
        Ok(())
    }

    fn event_signal(&mut self, event: Event) {
        self.event(event).raise();
    }
}
