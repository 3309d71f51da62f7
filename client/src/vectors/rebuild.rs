//! Hosts that cannot add a vector: disable, enable with more vectors, and signal each vector
//! once.

use super::Shared;
use super::change::Changes;
use super::state::{Mask, Mode, State};
use crate::{Action, Data, Error, Transport, Trigger};
use std::collections::{BTreeMap, BTreeSet};

impl<T: Transport> Shared<T> {
    /// Makes changes that need more vectors than are allocated. Returns an error if the host
    /// refuses them; the previous vectors are restored then.
    pub(super) fn enlarge(
        &self,
        state: &mut State,
        old_size: u32,
        changes: &Changes,
        least: u32,
        size: u32,
    ) -> Result<(), Error> {
        let before: BTreeSet<u32> = state.attached().map(|(number, _)| number).collect();
        tracing::debug!(old_size, least, "enabling again: the host cannot add vectors");
        self.disable_index()?;
        let after: BTreeMap<u32, Option<&Trigger>> = state
            .attached()
            .map(|(number, trigger)| (number, Some(trigger)))
            .chain(changes.iter().map(|(number, trigger)| (*number, trigger.as_ref())))
            .collect();
        match self.build(state, &after, least, size) {
            Ok(size) => {
                state.mode = Mode::Fixed(size);
                self.record_and_signal(state, &before, changes);
                Ok(())
            }
            Err(cause) => Err(self.reenable_old(state, &before, old_size, cause)),
        }
    }

    /// Enables the index with its masks and these eventfds. Returns the number of allocated
    /// vectors. If a request fails, disables the index and returns the error.
    fn build(
        &self,
        state: &State,
        attached: &BTreeMap<u32, Option<&Trigger>>,
        least: u32,
        size: u32,
    ) -> Result<u32, Error> {
        let size = self.allocate(size, least)?;
        // Masks first. Otherwise a masked vector could signal before its mask is set.
        let made = self.restore_masks(state).and_then(|()| {
            self.attach_all(attached.iter().map(|(number, trigger)| (*number, *trigger)))
        });
        match made {
            Ok(()) => Ok(size),
            Err(cause) => {
                if let Err(error) = self.disable_index() {
                    tracing::warn!(%error, "an index that was to be idle stays enabled");
                }
                Err(cause)
            }
        }
    }

    pub(super) fn restore_masks(&self, state: &State) -> Result<(), Error> {
        for (number, slot) in &state.slots {
            if slot.mask != Mask::Unmasked {
                self.request("mask", Action::Mask, *number, Data::None { count: 1 })?;
            }
        }
        Ok(())
    }

    /// Records the changes, and signals each vector of `before` once on its current eventfd.
    fn record_and_signal(&self, state: &mut State, before: &BTreeSet<u32>, changes: &Changes) {
        for number in before {
            if let Some(trigger) = changes.get(number) {
                state.retarget(*number, trigger.clone());
            }
        }
        self.signal_once(state, before);
    }

    /// Enables the previous set of vectors again, after the larger set was refused. Returns the
    /// error for the caller.
    fn reenable_old(
        &self,
        state: &mut State,
        before: &BTreeSet<u32>,
        old_size: u32,
        cause: Error,
    ) -> Error {
        let old = state.attached().map(|(number, trigger)| (number, Some(trigger))).collect();
        match self.build(state, &old, old_size, old_size) {
            Ok(_) => {
                self.signal_once(state, before);
                cause
            }
            Err(error) => {
                tracing::warn!(%error, "the index cannot be enabled as it was");
                state.clear();
                let lost = before.iter().copied().collect();
                Error::Unrestored { cause: Box::new(cause), lost }
            }
        }
    }
}
