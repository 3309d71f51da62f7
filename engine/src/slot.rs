// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The state of one vector. A slot exists only while the vector is attached or masked.

use crate::{Errno, Host, Mask};

/// An ordered map from vector numbers to slots. The platform implements it.
///
/// ```
/// use vfio_irq_engine::{Errno, Slots};
/// use std::collections::BTreeMap;
///
/// /// An ordered map of the platform. Only `reserve` takes memory.
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
    /// Inserts the default slot for a vector that has none. This is the only step that can fail:
    /// a change of the slot takes no memory later.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the platform has no memory for a slot.
    fn reserve(&mut self, number: u32) -> Result<(), Errno>;

    /// Returns the slot of a vector.
    fn get(&self, number: u32) -> Option<&S>;

    /// Returns the slot of a vector for changes.
    fn get_mut(&mut self, number: u32) -> Option<&mut S>;

    /// Removes and returns the slot of a vector.
    fn remove(&mut self, number: u32) -> Option<S>;

    /// Returns the first vector from `number` on that has a slot.
    fn first_from(&self, number: u32) -> Option<u32>;
}

/// Counts of the changes of one vector (`CONTRACT.md`, B-05). The platform counts signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Changes from unmasked to masked.
    pub masks: u64,
    /// Changes from masked to unmasked.
    pub unmasks: u64,
    /// Replaced triggers.
    pub retargets: u64,
    /// Signals by a loopback.
    pub loopbacks: u64,
    /// Requests that were refused because of this vector.
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

/// The attachment of a vector.
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
        /// The trigger with which the current request replaces the trigger of `vector`.
        next: Option<H::Trigger>,
    },
}

impl<H: Host> Attachment<H> {
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::Nothing)
    }
}

/// The state of one vector.
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
    /// Returns the attached vector, or `None` if the vector is not attached.
    pub fn vector(&self) -> Option<&H::Vector> {
        match &self.attachment {
            Attachment::Attached { vector, .. } => Some(vector),
            Attachment::Nothing | Attachment::Staged(_) => None,
        }
    }

    /// Returns the mask of the vector.
    pub fn mask(&self) -> Mask {
        self.mask
    }

    /// Returns the counts of the vector since its slot exists.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns true if the slot holds neither an attachment nor a mask. Such a slot is removed.
    pub(crate) fn is_vacant(&self) -> bool {
        matches!(self.attachment, Attachment::Nothing) && self.mask == Mask::Unmasked
    }
}
