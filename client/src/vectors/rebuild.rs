//! Hosts that cannot add a vector: disable, enable larger, and signal what may have been missed.

use super::Shared;
use super::change::Changes;
use super::state::{Mask, Mode, State};
use crate::{Action, Data, Error, Transport, Trigger};
use std::collections::{BTreeMap, BTreeSet};

impl<T: Transport> Shared<T> {
    /// Makes changes that need more vectors than are allocated.
    pub(super) fn enlarge(
        &self,
        state: &mut State,
        old_size: u32,
        changes: &Changes,
        least: u32,
        size: u32,
    ) -> Result<(), Error> {
        let before: BTreeSet<u32> = state.attached().map(|(number, _)| number).collect();
        tracing::debug!(old_size, least, "enabling anew: the host cannot add vectors");
        self.disable_index()?;
        let after: BTreeMap<u32, Option<&Trigger>> = state
            .attached()
            .map(|(number, trigger)| (number, Some(trigger)))
            .chain(changes.iter().map(|(number, trigger)| (*number, trigger.as_ref())))
            .collect();
        match self.build(state, &after, least, size) {
            Ok(size) => {
                state.mode = Mode::Fixed(size);
                self.settle(state, &before, changes);
                Ok(())
            }
            Err(cause) => Err(self.back(state, &before, old_size, cause)),
        }
    }

    /// Enables the index with its masks and these eventfds; it is disabled when that fails.
    fn build(
        &self,
        state: &State,
        attached: &BTreeMap<u32, Option<&Trigger>>,
        least: u32,
        size: u32,
    ) -> Result<u32, Error> {
        let size = self.allocate(size, least)?;
        // Masks first: an interrupt must not come through in between.
        let made = self.masks_again(state).and_then(|()| {
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

    fn masks_again(&self, state: &State) -> Result<(), Error> {
        for (number, slot) in &state.slots {
            if slot.mask != Mask::Open {
                self.request("to mask", Action::Mask, *number, Data::None { count: 1 })?;
            }
        }
        Ok(())
    }

    /// Signals everybody who was there before, on the eventfd that is there now.
    fn settle(&self, state: &mut State, before: &BTreeSet<u32>, changes: &Changes) {
        for number in before {
            if let Some(trigger) = changes.get(number) {
                state.retarget(*number, trigger.clone());
            }
        }
        self.signal_once(state, before);
    }

    /// The larger set could not be had: the old one again.
    fn back(
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
