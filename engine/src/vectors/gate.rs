// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Mask and unmask (`CONTRACT.md`, B-03).

use super::{Mode, Vectors};
use crate::abi::{Data, Range};
use crate::slot::Attachment;
use crate::{Errno, Gate, Host, Kind, Slot, Slots};

impl<H: Host> Vectors<H> {
    pub(super) fn mask(
        &mut self,
        host: &mut H,
        kind: Kind,
        range: Range,
        data: Data<'_>,
    ) -> Result<(), Errno> {
        self.check_gates(host, kind, data)?;
        if let Data::Bool(bools) = data {
            return self.mask_chosen(host, kind, range, |i| bools.get(i));
        }
        // The common case, one vector that has a slot, has nothing that could fail.
        if range.count() == 1 && self.set_gate(host, kind, range.start(), Gate::Masked).is_some() {
            return Ok(());
        }
        self.mask_chosen(host, kind, range, |_| true)
    }

    pub(super) fn unmask(
        &mut self,
        host: &mut H,
        kind: Kind,
        range: Range,
        data: Data<'_>,
    ) -> Result<(), Errno> {
        self.check_gates(host, kind, data)?;
        match data {
            Data::Bool(bools) => self.unmask_chosen(host, kind, range, |i| bools.get(i)),
            _ => self.unmask_chosen(host, kind, range, |_| true),
        }
        Ok(())
    }

    fn check_gates(&self, host: &H, kind: Kind, data: Data<'_>) -> Result<(), Errno> {
        if !host.maskable(kind) || matches!(data, Data::Eventfd(_)) {
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
        if range.count() == 1 {
            // The usual request, which needs no search for the next vector.
            if chosen(0) {
                self.open(host, kind, range.start());
            }
            return;
        }
        let mut from = range.start();
        while let Some(number) = self.slots.first_from(from).filter(|n| *n < range.end()) {
            if chosen(number.saturating_sub(range.start()) as usize) {
                self.open(host, kind, number);
            }
            from = number.saturating_add(1);
        }
    }

    #[inline]
    fn open(&mut self, host: &mut H, kind: Kind, number: u32) {
        let known = self.set_gate(host, kind, number, Gate::Open);
        if known.is_some_and(Slot::is_vacant) {
            self.prune(number);
        }
    }

    /// Opens or closes the gate of a vector that has a slot, and returns the slot.
    #[inline]
    fn set_gate(&mut self, host: &mut H, kind: Kind, number: u32, gate: Gate) -> Option<&Slot<H>> {
        let slot = self.slots.get_mut(number)?;
        if slot.gate == gate {
            return Some(slot);
        }
        slot.gate = gate;
        let count = match gate {
            Gate::Masked => &mut slot.counts.masks,
            Gate::Open => &mut slot.counts.unmasks,
        };
        *count = count.wrapping_add(1);
        if let Attachment::Attached { vector, .. } = &mut slot.attachment {
            host.set_gate(kind, number, vector, gate);
        }
        Some(slot)
    }
}
