//! Mask and unmask, on a host with MASKABLE.

use super::state::{Mask, State};
use super::{Shared, Vectors};
use crate::capabilities::ask;
use crate::{Action, Data, Error, SetIrqs, Transport};
use std::collections::BTreeSet;

impl<T: Transport> Vectors<T> {
    /// Masks `count` vectors from `start` on. The device holds their interrupts, and unmask
    /// signals each such vector once. A vector can be masked before it is enabled. A mask
    /// outlives a detach and a re-target; disabling the index clears it (B-03).
    ///
    /// # Errors
    ///
    /// [`Error::NotMaskable`], [`Error::NoSuchVector`]; [`Error::Refused`] with EINVAL if the
    /// index is not active.
    pub fn mask(&self, start: u32, count: u32) -> Result<(), Error> {
        let mut state = self.0.lock();
        self.0.set_masks(&mut state, Action::Mask, start, Data::None { count })
    }

    /// Unmasks `count` vectors from `start` on. If the device holds an interrupt of a vector, the
    /// vector is signalled once.
    ///
    /// # Errors
    ///
    /// As [`Vectors::mask`].
    pub fn unmask(&self, start: u32, count: u32) -> Result<(), Error> {
        let mut state = self.0.lock();
        self.0.set_masks(&mut state, Action::Unmask, start, Data::None { count })
    }

    /// Masks the vectors from `start` on whose element of `chosen` is true, in one request.
    ///
    /// # Errors
    ///
    /// As [`Vectors::mask`].
    pub fn mask_chosen(&self, start: u32, chosen: &[bool]) -> Result<(), Error> {
        let mut state = self.0.lock();
        self.0.set_masks(&mut state, Action::Mask, start, Data::Bool(chosen))
    }

    /// Unmasks the vectors from `start` on whose element of `chosen` is true, in one request.
    ///
    /// # Errors
    ///
    /// As [`Vectors::mask`].
    pub fn unmask_chosen(&self, start: u32, chosen: &[bool]) -> Result<(), Error> {
        let mut state = self.0.lock();
        self.0.set_masks(&mut state, Action::Unmask, start, Data::Bool(chosen))
    }
}

/// Returns the vectors that a request masks or unmasks.
fn selected(start: u32, data: Data<'_>) -> Vec<u32> {
    match data {
        Data::None { count } => (start..start.saturating_add(count)).collect(),
        Data::Bool(chosen) => {
            (start..).zip(chosen).filter(|(_, yes)| **yes).map(|(number, _)| number).collect()
        }
        Data::Eventfd(_) => Vec::new(),
    }
}

impl<T: Transport> Shared<T> {
    pub(super) fn set_masks(
        &self,
        state: &mut State,
        action: Action,
        start: u32,
        data: Data<'_>,
    ) -> Result<(), Error> {
        if !self.capabilities.maskable() {
            return Err(Error::NotMaskable { index: self.name() });
        }
        let request = SetIrqs { index: self.index(), action, start, data };
        let Some(last) = request.count().checked_sub(1) else { return Ok(()) };
        self.check(start.saturating_add(last))?;
        let verb = if action == Action::Mask { "mask" } else { "unmask" };
        ask(&self.transport, verb, &request)?;
        let mut owed = BTreeSet::new();
        for number in selected(start, data) {
            let slot = state.slots.entry(number).or_default();
            if action != Action::Mask {
                if slot.mask == Mask::Owed {
                    owed.insert(number);
                }
                slot.mask = Mask::Unmasked;
            } else if slot.mask == Mask::Unmasked {
                slot.mask = Mask::Masked;
            }
            state.prune(number);
        }
        self.signal_once(state, &owed);
        Ok(())
    }
}
