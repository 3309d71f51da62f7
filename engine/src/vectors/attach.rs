// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Attach, re-target and detach. The first attach enables the index.

use super::{Mode, Vectors};
use crate::abi::{Fds, Range};
use crate::slot::Attachment;
use crate::{Errno, Host, MsiType, Refusal, Size, Slots};

impl<H: Host> Vectors<H> {
    /// Enables an idle index with all vectors up to the end of the range, and attaches those that
    /// have a descriptor. Returns an error if a step fails; the index is idle then.
    pub(super) fn enable(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        range: Range,
        fds: Fds<'_>,
    ) -> Result<(), Refusal> {
        if range.end() == 0 {
            return Err(Errno::ERANGE.into());
        }
        let size = host.enable(msi_type, range.end())?;
        self.mode = Mode::Active { msi_type, size };
        if let Err(errno) = self.attach(host, msi_type, size, range, fds) {
            host.disable(msi_type);
            self.mode = Mode::Idle;
            return Err(errno.into());
        }
        self.totals.enables = self.totals.enables.wrapping_add(1);
        Ok(())
    }

    /// Attaches or re-targets each vector of the range that has a descriptor, and detaches the
    /// others. Returns an error if a step of prepare fails; nothing has changed then.
    pub(super) fn attach(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        size: Size,
        range: Range,
        fds: Fds<'_>,
    ) -> Result<(), Errno> {
        // Each vector with its descriptor, or with none if it is to be detached.
        let wanted =
            || range.numbers().enumerate().map(|(i, n)| (n, fds.get(i).filter(|fd| *fd >= 0)));
        let mut changes = false;
        for (number, fd) in wanted() {
            let Some(fd) = fd else {
                changes = true;
                continue;
            };
            match self.stage(host, msi_type, size, number, fd) {
                Ok(staged) => changes |= staged,
                Err(errno) => {
                    self.record_failure(host, number);
                    self.unstage(host, msi_type, range.start(), number);
                    return Err(errno);
                }
            }
        }
        let attached = || wanted().filter(|(_, fd)| fd.is_some()).map(|(number, _)| number);
        let bypass = host.has_irq_bypass();
        if changes {
            if bypass {
                attached().for_each(|number| self.unregister_irq_bypass(host, number));
            }
            for (number, _) in wanted().filter(|(_, fd)| fd.is_none()) {
                self.detach(host, msi_type, number);
            }
            attached().for_each(|number| self.commit(host, msi_type, number));
        }
        // Also where nothing has changed: an offer that failed since another vector had the eventfd
        // may succeed now.
        if bypass {
            attached().for_each(|number| self.register_irq_bypass(host, number));
        }
        Ok(())
    }

    /// Takes the steps for one vector that can fail. Returns true if there is something to
    /// commit.
    #[inline]
    fn stage(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        size: Size,
        number: u32,
        fd: i32,
    ) -> Result<bool, Errno> {
        if matches!(size, Size::Fixed(vectors) if number >= vectors) {
            return Err(Errno::EINVAL);
        }
        let trigger = host.resolve(fd)?;
        let Some(slot) = self.slots.get_mut(number) else {
            self.slots.reserve(number)?;
            return self.stage_new(host, msi_type, size, number, fd, trigger);
        };
        match &mut slot.attachment {
            Attachment::Attached { vector, next: next @ None } => {
                if host.is_up_to_date(msi_type, number, vector, &trigger, slot.mask) {
                    return Ok(false);
                }
                *next = Some(trigger);
                Ok(true)
            }
            Attachment::Nothing => self.stage_new(host, msi_type, size, number, fd, trigger),
            // A range names each vector once, and no request leaves these states behind.
            Attachment::Staged(_) | Attachment::Attached { .. } => Err(Errno::EBUSY),
        }
    }

    /// Prepares a vector that has a slot and no attachment. Returns true if that succeeds.
    fn stage_new(
        &mut self,
        host: &mut H,
        msi_type: MsiType,
        size: Size,
        number: u32,
        fd: i32,
        trigger: H::Trigger,
    ) -> Result<bool, Errno> {
        let mut prepared = host.prepare(msi_type, number, trigger);
        let full = matches!(prepared, Err(Errno::ENOSPC)) && size == Size::Dynamic;
        if full && self.reclaim(host, msi_type, number) {
            // The failed step dropped the trigger, so the descriptor is resolved again.
            prepared = host.resolve(fd).and_then(|trigger| host.prepare(msi_type, number, trigger));
        }
        match (prepared, self.slots.get_mut(number)) {
            (Ok(vector), Some(slot)) => {
                slot.attachment = Attachment::Staged(vector);
                Ok(true)
            }
            (Ok(vector), None) => {
                host.abandon(msi_type, number, vector);
                Err(Errno::ENOMEM)
            }
            (Err(errno), _) => {
                self.prune(number);
                Err(errno)
            }
        }
    }

    /// Frees the interrupts of all vectors without a trigger, other than `except`. Returns true
    /// if there was any (B-04).
    ///
    /// The walk covers the whole table. Only a request that the host would otherwise refuse pays
    /// for it.
    #[cold]
    fn reclaim(&mut self, host: &mut H, msi_type: MsiType, except: u32) -> bool {
        let mut found = false;
        for number in (0..host.count(msi_type)).filter(|number| *number != except) {
            let slot = self.slots.get(number);
            if slot.is_none_or(|slot| matches!(slot.attachment, Attachment::Nothing)) {
                found |= host.reclaim(msi_type, number);
            }
        }
        found
    }

    /// Undoes [`Self::stage`] for the vectors from `start` to before `end`, in reverse order.
    fn unstage(&mut self, host: &mut H, msi_type: MsiType, start: u32, end: u32) {
        for number in (start..end).rev() {
            let Some(slot) = self.slots.get_mut(number) else { continue };
            match &mut slot.attachment {
                Attachment::Attached { next, .. } => *next = None,
                Attachment::Staged(_) => {
                    if let Attachment::Staged(vector) = slot.attachment.take() {
                        host.abandon(msi_type, number, vector);
                    }
                }
                Attachment::Nothing => {}
            }
            self.prune(number);
        }
    }

    fn unregister_irq_bypass(&mut self, host: &mut H, number: u32) {
        if let Some(slot) = self.slots.get_mut(number) {
            if let Attachment::Attached { vector, next: Some(_) } = &mut slot.attachment {
                host.unregister_irq_bypass(vector);
            }
        }
    }

    fn register_irq_bypass(&mut self, host: &mut H, number: u32) {
        if let Some(slot) = self.slots.get_mut(number) {
            if let Attachment::Attached { vector, .. } = &mut slot.attachment {
                host.register_irq_bypass(vector);
            }
        }
    }

    #[inline]
    fn commit(&mut self, host: &mut H, msi_type: MsiType, number: u32) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        match &mut slot.attachment {
            Attachment::Attached { vector, next } => {
                if let Some(trigger) = next.take() {
                    host.retarget(msi_type, number, vector, trigger, slot.mask);
                    slot.counts.retargets = slot.counts.retargets.wrapping_add(1);
                }
            }
            Attachment::Staged(_) => {
                if let Attachment::Staged(mut vector) = slot.attachment.take() {
                    host.start(msi_type, number, &mut vector, slot.mask);
                    slot.attachment = Attachment::Attached { vector, next: None };
                    self.totals.attaches = self.totals.attaches.wrapping_add(1);
                }
            }
            Attachment::Nothing => {}
        }
    }

    fn detach(&mut self, host: &mut H, msi_type: MsiType, number: u32) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        match slot.attachment.take() {
            Attachment::Attached { vector, .. } => {
                host.stop(msi_type, number, vector);
                self.totals.detaches = self.totals.detaches.wrapping_add(1);
            }
            other => slot.attachment = other,
        }
        self.prune(number);
    }
}
