// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is known of one vector. A slot exists only while there is something to know.

use crate::{Errno, Gate, Host};

/// Where slots are kept, by the number of their vector: the platform's own ordered map.
pub trait Slots<S> {
    /// Makes room for a vector that has no slot, filled with the default. The only step that may
    /// fail: whatever is put in place of the default later takes no memory.
    fn reserve(&mut self, number: u32) -> Result<(), Errno>;

    /// The slot of a vector.
    fn get(&self, number: u32) -> Option<&S>;

    /// The slot of a vector.
    fn get_mut(&mut self, number: u32) -> Option<&mut S>;

    /// Takes a slot out.
    fn remove(&mut self, number: u32) -> Option<S>;

    /// The first vector from `number` on that has a slot.
    fn first_from(&self, number: u32) -> Option<u32>;
}

/// How often what was done to a vector (`CONTRACT.md`, B-05). Signals are counted where they
/// happen, by the platform.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// The gate was closed.
    pub masks: u64,
    /// The gate was opened.
    pub unmasks: u64,
    /// The trigger was replaced by another.
    pub retargets: u64,
    /// The loopback signalled it.
    pub loopbacks: u64,
    /// A request was refused because of this vector.
    pub failures: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.masks = self.masks.wrapping_add(other.masks);
        self.unmasks = self.unmasks.wrapping_add(other.unmasks);
        self.retargets = self.retargets.wrapping_add(other.retargets);
        self.loopbacks = self.loopbacks.wrapping_add(other.loopbacks);
        self.failures = self.failures.wrapping_add(other.failures);
    }
}

/// What is attached to a vector.
///
/// ```text
///            prepare            commit
///   Nothing ─────────► Staged ─────────► Attached ◄──────────┐
///      ▲                  │               │     │            │ commit, or
///      ├──────────────────┘               │     └► Replacing ┘ a later step failed
///      │    a later step failed           │  prepare
///      └──────────────────────────────────┘
///                  commit: detach, disable
/// ```
///
/// Between requests a slot is never `Staged` and never `Replacing`.
pub(crate) enum Attachment<H: Host> {
    Nothing,
    Staged(H::Vector),
    Attached(H::Vector),
    Replacing(H::Vector, H::Trigger),
}

impl<H: Host> Attachment<H> {
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::Nothing)
    }
}

/// All that is known of one vector.
pub struct Slot<H: Host> {
    pub(crate) attachment: Attachment<H>,
    pub(crate) gate: Gate,
    pub(crate) mask_watch: Option<H::Watch>,
    pub(crate) unmask_watch: Option<H::Watch>,
    pub(crate) counts: Counts,
}

impl<H: Host> Default for Slot<H> {
    fn default() -> Self {
        Self {
            attachment: Attachment::Nothing,
            gate: Gate::Open,
            mask_watch: None,
            unmask_watch: None,
            counts: Counts::default(),
        }
    }
}

impl<H: Host> Slot<H> {
    /// The attached vector, if one is.
    pub fn vector(&self) -> Option<&H::Vector> {
        match &self.attachment {
            Attachment::Attached(vector) | Attachment::Replacing(vector, _) => Some(vector),
            Attachment::Nothing | Attachment::Staged(_) => None,
        }
    }

    /// Whether it lets interrupts through.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// What was done to it so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Nothing to remember: the slot may go.
    pub(crate) fn is_vacant(&self) -> bool {
        matches!(self.attachment, Attachment::Nothing)
            && self.gate == Gate::Open
            && self.mask_watch.is_none()
            && self.unmask_watch.is_none()
    }

    pub(crate) fn watch_mut(&mut self, gate: Gate) -> &mut Option<H::Watch> {
        match gate {
            Gate::Masked => &mut self.mask_watch,
            Gate::Open => &mut self.unmask_watch,
        }
    }
}
