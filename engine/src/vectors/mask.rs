// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Mask and unmask (`CONTRACT.md`, B-03).

use super::{Mode, Vectors};
use crate::abi::{Data, Range};
use crate::slot::Attachment;
use crate::{Errno, Host, Mask, MsiType, Slot, Slots};

impl<H: Host> Vectors<H> {
    pub(super) fn mask(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        range: Range,
        data: Data<'_>,
    ) -> Result<(), Errno> {
        self.check_maskable(host, msi_type, data)?;
        if let Data::Bool(bools) = data {
            return self.mask_chosen(host, msi_type, range, |i| bools.get(i));
        }
        // One vector that has a slot is the common case, and cannot fail.
        if range.count() == 1
            && self.set_mask(host, msi_type, range.start(), Mask::Masked).is_some()
        {
            return Ok(());
        }
        self.mask_chosen(host, msi_type, range, |_| true)
    }

    pub(super) fn unmask(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        range: Range,
        data: Data<'_>,
    ) -> Result<(), Errno> {
        self.check_maskable(host, msi_type, data)?;
        match data {
            Data::Bool(bools) => self.unmask_chosen(host, msi_type, range, |i| bools.get(i)),
            _ => self.unmask_chosen(host, msi_type, range, |_| true),
        }
        Ok(())
    }

    fn check_maskable(&self, host: &H, msi_type: MsiType, data: Data<'_>) -> Result<(), Errno> {
        if !host.maskable(msi_type) || matches!(data, Data::Eventfd(_)) {
            return Err(Errno::ENOTTY);
        }
        match self.mode {
            Mode::Active { msi_type: active, .. } if active == msi_type => Ok(()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn mask_chosen(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        range: Range,
        chosen: impl Fn(usize) -> bool,
    ) -> Result<(), Errno> {
        let wanted =
            || range.numbers().enumerate().filter(|(i, _)| chosen(*i)).map(|(_, number)| number);
        for number in wanted() {
            if let Err(errno) = self.ensure_slot(number) {
                self.record_failure(host, number);
                wanted().take_while(|n| *n < number).for_each(|n| self.prune(n));
                return Err(errno);
            }
        }
        for number in wanted() {
            self.set_mask(host, msi_type, number, Mask::Masked);
        }
        Ok(())
    }

    fn unmask_chosen(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        range: Range,
        chosen: impl Fn(usize) -> bool,
    ) {
        if range.count() == 1 {
            // The usual request has one vector and needs no search for the next.
            if chosen(0) {
                self.unmask_vector(host, msi_type, range.start());
            }
            return;
        }
        let mut from = range.start();
        while let Some(number) = self.slots.first_from(from).filter(|n| *n < range.end()) {
            if chosen(number.saturating_sub(range.start()) as usize) {
                self.unmask_vector(host, msi_type, number);
            }
            from = number.saturating_add(1);
        }
    }

    #[inline]
    fn unmask_vector(&mut self, host: &mut H, msi_type: MsiType, number: u32) {
        let known = self.set_mask(host, msi_type, number, Mask::Unmasked);
        if known.is_some_and(Slot::is_vacant) {
            self.prune(number);
        }
    }

    /// Sets the mask of a vector that has a slot. Returns the slot, or `None` if there is none.
    #[inline]
    fn set_mask(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        number: u32,
        mask: Mask,
    ) -> Option<&Slot<H>> {
        let slot = self.slots.get_mut(number)?;
        if slot.mask == mask {
            return Some(slot);
        }
        slot.mask = mask;
        let count = match mask {
            Mask::Masked => &mut slot.counts.masks,
            Mask::Unmasked => &mut slot.counts.unmasks,
        };
        *count = count.wrapping_add(1);
        if let Attachment::Attached { vector, .. } = &mut slot.attachment {
            host.set_mask(msi_type, number, vector, mask);
        }
        Some(slot)
    }
}
