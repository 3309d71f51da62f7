// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Mask and unmask, at once or when an eventfd is signalled (`CONTRACT.md`, B-03).

use super::{Mode, Vectors};
use crate::abi::{Data, Fds, Range};
use crate::slot::Attachment;
use crate::{Errno, Gate, Host, Kind, Slots};

impl<H: Host> Vectors<H> {
    pub(super) fn mask(
        &mut self,
        host: &mut H,
        kind: Kind,
        range: Range,
        data: Data<'_>,
    ) -> Result<(), Errno> {
        self.check_gates(host, kind)?;
        match data {
            // The common case, one vector that has a slot, has nothing that could fail.
            Data::None
                if range.count() == 1 && self.set_gate(host, kind, range.start(), Gate::Masked) =>
            {
                Ok(())
            }
            Data::None => self.mask_chosen(host, kind, range, |_| true),
            Data::Bool(bools) => self.mask_chosen(host, kind, range, |i| bools.get(i)),
            Data::Eventfd(fds) => self.watch(host, Gate::Masked, range, fds),
        }
    }

    pub(super) fn unmask(
        &mut self,
        host: &mut H,
        kind: Kind,
        range: Range,
        data: Data<'_>,
    ) -> Result<(), Errno> {
        self.check_gates(host, kind)?;
        match data {
            Data::None => self.unmask_chosen(host, kind, range, |_| true),
            Data::Bool(bools) => self.unmask_chosen(host, kind, range, |i| bools.get(i)),
            Data::Eventfd(fds) => return self.watch(host, Gate::Open, range, fds),
        }
        Ok(())
    }

    /// An eventfd that [`Host::watch`] was asked to watch has been signalled. `is` recognises the
    /// watch: one that was taken down meanwhile is not found, and nothing happens.
    ///
    /// ```
    /// use vfio_irq_engine::Gate;
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let (fd, mask) = (sim.eventfd(), sim.eventfd());
    /// let armed = mask.to_ne_bytes();
    /// attach(&mut device, &mut sim, Index::Msix, 4, &[fd])?;
    /// ask(&mut device, &mut sim, Index::Msix, [DATA_EVENTFD | ACTION_MASK, 4, 1], &armed)?;
    /// // A signal of a watch that was replaced meanwhile does nothing.
    /// device.vectors_mut().watch_fired(&mut sim, 4, Gate::Masked, |watch| watch.fd() == 99);
    /// assert_eq!(device.vectors().slot(4).map(|slot| slot.gate()), Some(Gate::Open));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn watch_fired(
        &mut self,
        host: &mut H,
        number: u32,
        gate: Gate,
        is: impl FnOnce(&H::Watch) -> bool,
    ) {
        let Mode::Active { kind, .. } = self.mode else { return };
        let watch = self.slots.get_mut(number).and_then(|slot| slot.watch_mut(gate).as_ref());
        if watch.is_some_and(is) {
            self.set_gate(host, kind, number, gate);
        }
    }

    fn check_gates(&self, host: &H, kind: Kind) -> Result<(), Errno> {
        if !host.maskable(kind) {
            return Err(Errno::ENOTTY);
        }
        match self.mode {
            Mode::Active { kind: active, .. } if active == kind => Ok(()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn mask_chosen(
        &mut self,
        host: &mut H,
        kind: Kind,
        range: Range,
        chosen: impl Fn(usize) -> bool,
    ) -> Result<(), Errno> {
        let wanted =
            || range.numbers().enumerate().filter(|(i, _)| chosen(*i)).map(|(_, number)| number);
        for number in wanted() {
            if let Err(errno) = self.ensure_slot(number) {
                self.blame(host, number);
                wanted().take_while(|n| *n < number).for_each(|n| self.prune(n));
                return Err(errno);
            }
        }
        for number in wanted() {
            self.set_gate(host, kind, number, Gate::Masked);
        }
        Ok(())
    }

    fn unmask_chosen(
        &mut self,
        host: &mut H,
        kind: Kind,
        range: Range,
        chosen: impl Fn(usize) -> bool,
    ) {
        let mut from = range.start();
        while let Some(number) = self.slots.first_from(from).filter(|n| *n < range.end()) {
            if chosen(number.saturating_sub(range.start()) as usize) {
                self.set_gate(host, kind, number, Gate::Open);
                self.prune(number);
            }
            from = number.saturating_add(1);
        }
    }

    /// Opens or closes the gate of a vector that has a slot; `false` when it has none.
    #[inline]
    fn set_gate(&mut self, host: &mut H, kind: Kind, number: u32, gate: Gate) -> bool {
        let Some(slot) = self.slots.get_mut(number) else { return false };
        if slot.gate == gate {
            return true;
        }
        slot.gate = gate;
        let count = match gate {
            Gate::Masked => &mut slot.counts.masks,
            Gate::Open => &mut slot.counts.unmasks,
        };
        *count = count.wrapping_add(1);
        if let Attachment::Attached(vector) = &mut slot.attachment {
            host.set_gate(kind, vector, gate);
        }
        true
    }

    /// Arms or disarms an eventfd for each vector of the range. One that is armed already stays,
    /// and the request is refused with `EBUSY`, as Linux does for the line.
    fn watch(&mut self, host: &mut H, gate: Gate, range: Range, fds: Fds<'_>) -> Result<(), Errno> {
        let wanted = || range.numbers().enumerate().map(|(i, n)| (n, fds.get(i).unwrap_or(-1)));
        for (number, fd) in wanted().filter(|(_, fd)| *fd >= 0) {
            if let Err(errno) = self.arm(host, gate, number, fd) {
                self.blame(host, number);
                wanted()
                    .take_while(|(n, _)| *n < number)
                    .filter(|(_, fd)| *fd >= 0)
                    .for_each(|(n, _)| self.disarm(host, gate, n));
                return Err(errno);
            }
        }
        for (number, _) in wanted().filter(|(_, fd)| *fd < 0) {
            self.disarm(host, gate, number);
        }
        Ok(())
    }

    fn arm(&mut self, host: &mut H, gate: Gate, number: u32, fd: i32) -> Result<(), Errno> {
        self.ensure_slot(number)?;
        let slot = self.slots.get_mut(number).ok_or(Errno::ENOMEM)?;
        let place = slot.watch_mut(gate);
        let armed = if place.as_ref().is_some_and(|watch| host.watching(watch)) {
            Err(Errno::EBUSY)
        } else {
            host.watch(number, gate, fd).map(|watch| place.replace(watch))
        };
        let armed = armed.map(|dead| dead.into_iter().for_each(|watch| host.unwatch(watch)));
        self.prune(number);
        armed
    }

    fn disarm(&mut self, host: &mut H, gate: Gate, number: u32) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        if let Some(watch) = slot.watch_mut(gate).take() {
            host.unwatch(watch);
        }
        self.prune(number);
    }
}
