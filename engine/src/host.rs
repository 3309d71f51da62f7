// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The traits that a platform implements.
//!
//! A step that can fail returns `Result`. The engine takes such steps in prepare only, and each
//! has a counterpart that undoes it. A step that returns nothing cannot fail; the engine takes
//! such steps in commit. The engine takes no locks: every call has `&mut self`, and the platform
//! locks around it.

mod events;
mod types;

pub use events::{EventHost, IntxHost};
pub use types::{Mask, MsiType, Size};

use crate::{Errno, Refusal, Slot, Slots};

/// A platform with MSI and MSI-X.
///
/// # What the engine guarantees
///
/// - `enable` and `disable` alternate. Every other step on vectors is between them.
/// - The engine passes a [`Host::Vector`] from `prepare` to exactly one of `abandon` (the request
///   failed) and `start` (it succeeded). A started vector ends with `stop`.
/// - A dropped [`Host::Trigger`] releases the reference to the eventfd.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Mask, Host, MsiType};
///
/// // One attach and one detach, in the order of the engine.
/// let (mut sim, msi_type) = (Sim::new(), MsiType::Msix);
/// let fd = sim.eventfd();
/// let trigger = sim.resolve(fd)?;
/// sim.enable(msi_type, 1)?;
/// let mut vector = sim.prepare(msi_type, 0, trigger)?;
/// sim.start(msi_type, 0, &mut vector, Mask::Unmasked); // Nothing can fail from here on.
/// sim.raise(0);
/// sim.stop(msi_type, 0, vector);
/// sim.disable(msi_type);
/// assert_eq!((sim.signals(fd), sim.leaks()), (1, None));
/// # Ok::<(), vfio_irq_engine::Refusal>(())
/// ```
pub trait Host: Sized {
    /// A reference to an eventfd. Dropping it releases the reference.
    type Trigger;
    /// An interrupt that is allocated for a vector, with a trigger. The interrupt is
    /// disabled until `start`.
    type Vector;
    /// The map that holds the slot of each vector.
    type Slots: Slots<Slot<Self>>;

    /// Returns the number of vectors of MSI or of MSI-X; 0 if the device has none.
    fn count(&self, msi_type: MsiType) -> u32;

    /// Returns true if vectors can be added while others are in use.
    fn dynamic(&self, msi_type: MsiType) -> bool;

    /// Returns true if single vectors can be masked.
    fn maskable(&self, msi_type: MsiType) -> bool;

    /// Takes a reference to the eventfd of a descriptor of user space, or of a position in a
    /// message ([`crate::abi::Checked::request_by_position`]). Returns the reference.
    ///
    /// # Errors
    ///
    /// `EBADF` if the descriptor is not open, `EINVAL` if it is not an eventfd (`CONTRACT.md`,
    /// V-10).
    fn resolve(&mut self, fd: i32) -> Result<Self::Trigger, Errno>;

    /// Enables MSI or MSI-X and allocates `vectors` interrupts, at least 1. No vector is attached
    /// yet. If the call fails, no interrupt is allocated. Returns the size of the index.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooFew`] if the host has fewer interrupts, `ENOSPC` if it has none
    /// (`CONTRACT.md`, V-06). Other errors of the platform pass through.
    fn enable(&mut self, msi_type: MsiType, vectors: u32) -> Result<Size, Refusal>;

    /// Disables MSI or MSI-X and frees all interrupts. The engine has stopped every vector
    /// before.
    fn disable(&mut self, msi_type: MsiType);

    /// Allocates an interrupt for the vector if it has none, and requests its handler with the
    /// interrupt disabled. Returns the prepared vector.
    ///
    /// # Errors
    ///
    /// `ENOSPC` or `ENOMEM` if the platform has no interrupt or no memory (`CONTRACT.md`, V-08).
    /// The trigger is dropped then.
    fn prepare(
        &mut self,
        msi_type: MsiType,
        number: u32,
        trigger: Self::Trigger,
    ) -> Result<Self::Vector, Errno>;

    /// Undoes [`Host::prepare`]. An interrupt that `prepare` allocated is freed; an interrupt
    /// that existed before stays.
    fn abandon(&mut self, msi_type: MsiType, number: u32, vector: Self::Vector);

    /// Enables the interrupt of a prepared vector, unless `mask` is [`Mask::Masked`].
    fn start(&mut self, msi_type: MsiType, number: u32, vector: &mut Self::Vector, mask: Mask);

    /// Returns true if attaching `trigger` would change nothing. The vector then signals the same
    /// eventfd, and the platform has no reason to write the message of the vector again.
    fn is_up_to_date(
        &mut self,
        msi_type: MsiType,
        number: u32,
        vector: &Self::Vector,
        trigger: &Self::Trigger,
        mask: Mask,
    ) -> bool;

    /// Returns true if the platform registers irq bypass producers. Only then does the engine
    /// call the two methods below.
    fn has_irq_bypass(&self) -> bool {
        false
    }

    /// Unregisters the irq bypass producer of a vector. The handler signals its interrupts from
    /// now on.
    ///
    /// The engine calls this for every vector of a request whose trigger changes, before it
    /// changes any trigger. An eventfd takes one bypass producer, and two vectors can swap their
    /// eventfds.
    fn unregister_irq_bypass(&mut self, vector: &mut Self::Vector) {
        let _ = vector;
    }

    /// Registers the interrupt of an attached vector as an irq bypass producer. Failure is
    /// harmless, because the handler signals the interrupts then. A vector that is registered
    /// already stays registered.
    ///
    /// The engine calls this last, after every vector of the request has its trigger.
    fn register_irq_bypass(&mut self, vector: &mut Self::Vector) {
        let _ = vector;
    }

    /// Replaces the trigger. An interrupt that arrives meanwhile signals either the old trigger
    /// or the new one (`CONTRACT.md`, B-02).
    fn retarget(
        &mut self,
        msi_type: MsiType,
        number: u32,
        vector: &mut Self::Vector,
        trigger: Self::Trigger,
        mask: Mask,
    );

    /// Detaches the trigger from the vector. Its interrupt stays allocated until
    /// [`Host::reclaim`] or [`Host::disable`] (`CONTRACT.md`, V-09).
    fn stop(&mut self, msi_type: MsiType, number: u32, vector: Self::Vector);

    /// Frees the interrupt of a vector without a trigger. Returns true if the vector had an
    /// interrupt.
    ///
    /// The engine calls this if the host has no interrupt left for another vector (`CONTRACT.md`,
    /// B-04). Only a dynamic index gets this call.
    fn reclaim(&mut self, msi_type: MsiType, number: u32) -> bool {
        let _ = (msi_type, number);
        false
    }

    /// Masks or unmasks a started vector. The engine calls this on changes only.
    fn set_mask(&mut self, msi_type: MsiType, number: u32, vector: &mut Self::Vector, mask: Mask);

    /// Signals the trigger as if the device had raised the vector (`CONTRACT.md`, V-04).
    fn signal(&mut self, vector: &Self::Vector);

    /// Records that a request was refused because of this vector. The engine counts refusals too,
    /// but only while the vector has a slot.
    fn record_failure(&mut self, number: u32) {
        let _ = number;
    }
}
