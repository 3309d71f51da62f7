//! The state of the vectors, from which the library restores them.

use crate::Trigger;
use std::collections::BTreeMap;

/// The mode of the index on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Mode {
    #[default]
    Idle,
    /// Enabled; vectors can be added.
    Dynamic,
    /// Enabled with this many vectors; none can be added.
    Fixed(u32),
}

/// All vectors that are attached or masked. The state changes only after
/// the host executed the request.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) mode: Mode,
    pub(super) slots: BTreeMap<u32, Slot>,
    last_id: u64,
}

/// The state of one vector.
#[derive(Debug, Default)]
pub(super) struct Slot {
    attachment: Option<Attachment>,
    pub(super) mask: Mask,
}

/// The mask of a vector, as set by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Mask {
    #[default]
    Unmasked,
    Masked,
    /// Masked, and signalled at unmask: an interrupt may have been lost.
    Owed,
}

#[derive(Clone, Debug)]
struct Attachment {
    /// The handle that holds the vector; `None` if the host refused to detach it.
    id: Option<u64>,
    trigger: Trigger,
}

impl Slot {
    pub(super) fn trigger(&self) -> Option<&Trigger> {
        self.attachment.as_ref().map(|attachment| &attachment.trigger)
    }

    fn is_vacant(&self) -> bool {
        self.attachment.is_none() && self.mask == Mask::Unmasked
    }
}

impl State {
    /// Returns the vectors that signal an eventfd.
    pub(super) fn attached(&self) -> impl Iterator<Item = (u32, &Trigger)> {
        self.slots.iter().filter_map(|(number, slot)| Some((*number, slot.trigger()?)))
    }

    /// Returns the handle that holds a vector.
    pub(super) fn id(&self, number: u32) -> Option<u64> {
        self.slots.get(&number)?.attachment.as_ref()?.id
    }

    pub(super) fn trigger(&self, number: u32) -> Option<&Trigger> {
        self.slots.get(&number)?.trigger()
    }

    /// Attaches a vector. Returns the identifier of its new handle.
    pub(super) fn attach(&mut self, number: u32, trigger: Trigger) -> u64 {
        self.last_id = self.last_id.wrapping_add(1);
        let attachment = Attachment { id: Some(self.last_id), trigger };
        self.slots.entry(number).or_default().attachment = Some(attachment);
        self.last_id
    }

    /// Detaches a vector. Its mask stays.
    pub(super) fn detach(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.attachment = None;
        }
        self.prune(number);
    }

    /// Records that the handle of an attached vector is gone. The next enable of the vector
    /// replaces its eventfd.
    pub(super) fn orphan(&mut self, number: u32) {
        if let Some(attachment) =
            self.slots.get_mut(&number).and_then(|slot| slot.attachment.as_mut())
        {
            attachment.id = None;
        }
    }

    /// Replaces the eventfd of a vector. Its handle stays valid.
    pub(super) fn retarget(&mut self, number: u32, trigger: Option<Trigger>) {
        let attachment = self.slots.get_mut(&number).and_then(|slot| slot.attachment.as_mut());
        if let (Some(attachment), Some(trigger)) = (attachment, trigger) {
            attachment.trigger = trigger;
        }
    }

    /// Returns the eventfd to signal because an interrupt may have been lost. Returns `None` if
    /// the vector is not attached. Returns `None` if it is masked; unmask signals it then.
    pub(super) fn owe(&mut self, number: u32) -> Option<Trigger> {
        let slot = self.slots.get_mut(&number)?;
        if slot.mask != Mask::Unmasked {
            slot.mask = Mask::Owed;
            return None;
        }
        slot.trigger().cloned()
    }

    /// Removes a slot that is neither attached nor masked.
    pub(super) fn prune(&mut self, number: u32) {
        if self.slots.get(&number).is_some_and(Slot::is_vacant) {
            self.slots.remove(&number);
        }
    }

    /// Forgets all vectors, after the index was disabled.
    pub(super) fn clear(&mut self) {
        self.mode = Mode::Idle;
        self.slots.clear();
    }
}
