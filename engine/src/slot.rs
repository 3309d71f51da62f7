// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is known of one vector. A slot exists only while there is something to know.

use crate::{Errno, Host, Mask};

/// Where slots are kept, by the number of their vector: the platform's own ordered map.
///
/// ```
/// use vfio_irq_engine::{Errno, Slots};
/// use std::collections::BTreeMap;
///
/// /// A map of the platform's own: ordered, and only `reserve` takes memory.
/// struct Map<S>(BTreeMap<u32, S>);
///
/// impl<S: Default> Slots<S> for Map<S> {
///     fn reserve(&mut self, number: u32) -> Result<(), Errno> {
///         self.0.insert(number, S::default());
///         Ok(())
///     }
///     fn get(&self, number: u32) -> Option<&S> { self.0.get(&number) }
///     fn get_mut(&mut self, number: u32) -> Option<&mut S> { self.0.get_mut(&number) }
///     fn remove(&mut self, number: u32) -> Option<S> { self.0.remove(&number) }
///     fn first_from(&self, number: u32) -> Option<u32> { self.0.range(number..).next().map(|e| *e.0) }
/// }
/// let mut map = Map::<u8>(BTreeMap::new());
/// assert_eq!((map.reserve(2), map.first_from(1)), (Ok(()), Some(2)));
/// ```
pub trait Slots<S> {
    /// Makes room for a vector that has no slot, filled with the default. The only step that may
    /// fail: whatever is put in place of the default later takes no memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when there is no room.
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
///   Nothing ─────────► Staged ─────────► Attached ◄───────────┐
///      ▲                  │               │     │             │ commit, or
///      ├──────────────────┘               │     └► with `next`┘ a later step failed
///      │    a later step failed           │  prepare
///      └──────────────────────────────────┘
///                  commit: detach, disable
/// ```
///
/// # Invariants
///
/// Between requests, no slot is `Staged` and `next` is `None`.
pub(crate) enum Attachment<H: Host> {
    Nothing,
    Staged(H::Vector),
    Attached {
        vector: H::Vector,
        /// The trigger that the request at hand replaces the vector's own with.
        next: Option<H::Trigger>,
    },
}

impl<H: Host> Attachment<H> {
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::Nothing)
    }
}

/// All that is known of one vector.
pub struct Slot<H: Host> {
    pub(crate) attachment: Attachment<H>,
    pub(crate) mask: Mask,
    pub(crate) counts: Counts,
}

impl<H: Host> Default for Slot<H> {
    fn default() -> Self {
        Self { attachment: Attachment::Nothing, mask: Mask::Unmasked, counts: Counts::default() }
    }
}

impl<H: Host> Slot<H> {
    /// The attached vector, if one is.
    pub fn vector(&self) -> Option<&H::Vector> {
        match &self.attachment {
            Attachment::Attached { vector, .. } => Some(vector),
            Attachment::Nothing | Attachment::Staged(_) => None,
        }
    }

    /// Whether it lets interrupts through.
    pub fn mask(&self) -> Mask {
        self.mask
    }

    /// What was done to it so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Nothing to remember: the slot may go.
    pub(crate) fn is_vacant(&self) -> bool {
        matches!(self.attachment, Attachment::Nothing) && self.mask == Mask::Unmasked
    }
}
