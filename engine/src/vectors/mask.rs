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
        // One vector that has a slot is the common case, and cannot fail.
        if range.count() == 1
            && data.selects(0)
            && self.set_mask(host, msi_type, range.start(), Mask::Masked).is_some()
        {
            return Ok(());
        }
        let selected =
            || range.numbers().enumerate().filter(|(i, _)| data.selects(*i)).map(|(_, n)| n);
        for number in selected() {
            if let Err(errno) = self.ensure_slot(number) {
                self.record_failure(host, number);
                selected().take_while(|n| *n < number).for_each(|n| self.prune(n));
                return Err(errno);
            }
        }
        for number in selected() {
            self.set_mask(host, msi_type, number, Mask::Masked);
        }
        Ok(())
    }

    pub(super) fn unmask(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        range: Range,
        data: Data<'_>,
    ) -> Result<(), Errno> {
        self.check_maskable(host, msi_type, data)?;
        self.each_selected_slot(range, data, |vectors, number| {
            let known = vectors.set_mask(host, msi_type, number, Mask::Unmasked);
            if known.is_some_and(Slot::is_vacant) {
                vectors.prune(number);
            }
        });
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
