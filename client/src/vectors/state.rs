//! What the library knows of the vectors, so that it can bring them back.

use crate::Trigger;
use std::collections::BTreeMap;

/// Whether the index is enabled on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Mode {
    #[default]
    Idle,
    /// Vectors can be added.
    Growing,
    /// This many are allocated, and no more can be.
    Fixed(u32),
}

/// All vectors of which something is known. It is changed only after the host has agreed.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) mode: Mode,
    pub(super) slots: BTreeMap<u32, Slot>,
    last_id: u64,
}

/// One vector.
#[derive(Debug, Default)]
pub(super) struct Slot {
    attachment: Option<Attachment>,
    pub(super) mask: Mask,
}

/// Whether a vector is masked, as far as calls have said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Mask {
    #[default]
    Open,
    Closed,
    /// Masked, and to be signalled when it is unmasked: an interrupt may have been lost.
    Owed,
}

#[derive(Clone, Debug)]
struct Attachment {
    /// Which handle it belongs to; none when the host refused to detach it.
    id: Option<u64>,
    trigger: Trigger,
}

impl Slot {
    pub(super) fn trigger(&self) -> Option<&Trigger> {
        self.attachment.as_ref().map(|attachment| &attachment.trigger)
    }

    fn is_vacant(&self) -> bool {
        self.attachment.is_none() && self.mask == Mask::Open
    }
}

impl State {
    /// The vectors that signal an eventfd.
    pub(super) fn attached(&self) -> impl Iterator<Item = (u32, &Trigger)> {
        self.slots.iter().filter_map(|(number, slot)| Some((*number, slot.trigger()?)))
    }

    /// The handle that a vector belongs to.
    pub(super) fn id(&self, number: u32) -> Option<u64> {
        self.slots.get(&number)?.attachment.as_ref()?.id
    }

    pub(super) fn trigger(&self, number: u32) -> Option<&Trigger> {
        self.slots.get(&number)?.trigger()
    }

    /// A vector belongs to a new handle from now on; `None` detaches it.
    pub(super) fn attach(&mut self, number: u32, trigger: Option<Trigger>) {
        self.last_id = self.last_id.wrapping_add(1);
        let id = Some(self.last_id);
        self.slots.entry(number).or_default().attachment =
            trigger.map(|trigger| Attachment { id, trigger });
        self.prune(number);
    }

    /// A vector's handle is gone and it is attached all the same: the next one takes its place.
    pub(super) fn orphan(&mut self, number: u32) {
        if let Some(attachment) =
            self.slots.get_mut(&number).and_then(|slot| slot.attachment.as_mut())
        {
            attachment.id = None;
        }
    }

    /// A vector signals another eventfd; its handle is the same.
    pub(super) fn retarget(&mut self, number: u32, trigger: Option<Trigger>) {
        let attachment = self.slots.get_mut(&number).and_then(|slot| slot.attachment.as_mut());
        if let (Some(attachment), Some(trigger)) = (attachment, trigger) {
            attachment.trigger = trigger;
        }
    }

    /// The eventfd to signal because an interrupt may have been lost; `None` when there is none, or
    /// when it is put off because the vector is masked.
    pub(super) fn owe(&mut self, number: u32) -> Option<Trigger> {
        let slot = self.slots.get_mut(&number)?;
        if slot.mask != Mask::Open {
            slot.mask = Mask::Owed;
            return None;
        }
        slot.trigger().cloned()
    }

    /// Lets a slot go when there is nothing left to remember.
    pub(super) fn prune(&mut self, number: u32) {
        if self.slots.get(&number).is_some_and(Slot::is_vacant) {
            self.slots.remove(&number);
        }
    }

    /// The index is disabled.
    pub(super) fn clear(&mut self) {
        self.mode = Mode::Idle;
        self.slots.clear();
    }
}
