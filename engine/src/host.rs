// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the engine asks of its platform.
//!
//! Steps that may fail return `Result` and are only ever taken while a request is prepared; each
//! has a step beside it that undoes it. Steps that carry a request out return nothing: they cannot
//! fail. The engine never holds a lock and never asks for one: `&mut self` everywhere, locks belong
//! to the platform.

mod events;
mod types;

pub use events::{EventHost, IntxHost};
pub use types::{Mask, MsiType, Size};

use crate::{Errno, Refusal, Slot, Slots};

/// A platform with MSI and MSI-X.
///
/// # What the engine promises
///
/// - `enable` and `disable` alternate, and every other step on vectors happens between them.
/// - A [`Host::Vector`] from `prepare` goes to exactly one of `abandon` (the request failed), or
///   `start` (it did not) and in the end `stop`.
/// - Dropping a [`Host::Trigger`] gives up the reference to the eventfd.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Mask, Host, MsiType};
///
/// // The steps of one attach and one detach, in the order in which the engine takes them.
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
    /// A reference to an eventfd, given up when dropped.
    type Trigger;
    /// An interrupt that is allocated for a vector, with a trigger, closed until it is started.
    type Vector;
    /// Where what is known of each vector is kept.
    type Slots: Slots<Slot<Self>>;

    /// Returns the number of vectors of MSI or of MSI-X; 0 if the device has none.
    fn count(&self, msi_type: MsiType) -> u32;

    /// Returns true if vectors can be added while others are in use.
    fn dynamic(&self, msi_type: MsiType) -> bool;

    /// Returns true if single vectors can be masked.
    fn maskable(&self, msi_type: MsiType) -> bool;

    /// The eventfd behind a descriptor of user space.
    ///
    /// # Errors
    ///
    /// `EBADF` when it is not open, `EINVAL` when it is no eventfd (`CONTRACT.md`, V-10).
    fn resolve(&mut self, fd: i32) -> Result<Self::Trigger, Errno>;

    /// Enables MSI or MSI-X with so many vectors allocated, at least 1, none attached. All or nothing.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooFew`] when there are some and not enough, `ENOSPC` when there are none
    /// (`CONTRACT.md`, V-06); what else the platform answers.
    fn enable(&mut self, msi_type: MsiType, vectors: u32) -> Result<Size, Refusal>;

    /// Disables MSI or MSI-X and gives all interrupts back. No vector is attached any more.
    fn disable(&mut self, msi_type: MsiType);

    /// Gets an interrupt for the vector (a new one where it has none yet) and readies it for the
    /// trigger, but lets nothing through.
    ///
    /// # Errors
    ///
    /// `ENOSPC` and `ENOMEM` when it cannot be had (`CONTRACT.md`, V-08); the trigger is given up then.
    fn prepare(
        &mut self,
        msi_type: MsiType,
        number: u32,
        trigger: Self::Trigger,
    ) -> Result<Self::Vector, Errno>;

    /// Undoes [`Host::prepare`]: an interrupt that it allocated goes back, one that was there stays.
    fn abandon(&mut self, msi_type: MsiType, number: u32, vector: Self::Vector);

    /// Lets interrupts of a prepared vector through, unless its gate is masked.
    fn start(&mut self, msi_type: MsiType, number: u32, vector: &mut Self::Vector, mask: Mask);

    /// Whether attaching this trigger would change nothing: the vector signals this very eventfd,
    /// and the platform sees no reason to write anew what makes it work.
    fn is_up_to_date(
        &mut self,
        msi_type: MsiType,
        number: u32,
        vector: &Self::Vector,
        trigger: &Self::Trigger,
        mask: Mask,
    ) -> bool;

    /// Whether the platform offers interrupts to consumers in the kernel (irq bypass). The engine
    /// calls the two methods below only where it does.
    fn has_irq_bypass(&self) -> bool {
        false
    }

    /// Withdraws the offer of [`Host::register_irq_bypass`]. Interrupts go on through the handler.
    ///
    /// The engine calls this for every vector of a request whose trigger changes, before it changes
    /// any trigger: an eventfd takes one bypass producer, and two vectors may swap their eventfds.
    fn unregister_irq_bypass(&mut self, vector: &mut Self::Vector) {
        let _ = vector;
    }

    /// Offers the interrupt of an attached vector to consumers of its trigger. Failure is harmless:
    /// interrupts go through the handler. A vector that is registered already stays registered.
    ///
    /// The engine calls this last, when every vector of the request has its trigger.
    fn register_irq_bypass(&mut self, vector: &mut Self::Vector) {
        let _ = vector;
    }

    /// Replaces the trigger. An interrupt that arrives meanwhile is signalled on the old one or on
    /// the new one, never on none (`CONTRACT.md`, B-02).
    fn retarget(
        &mut self,
        msi_type: MsiType,
        number: u32,
        vector: &mut Self::Vector,
        trigger: Self::Trigger,
        mask: Mask,
    );

    /// Takes the trigger off the vector. Its interrupt stays allocated (`CONTRACT.md`, V-09), until
    /// [`Host::reclaim`] or [`Host::disable`].
    fn stop(&mut self, msi_type: MsiType, number: u32, vector: Self::Vector);

    /// Gives the interrupt of a vector without a trigger back to the machine, if it has one. Returns
    /// true if it had. The engine calls this when the machine has no interrupt left for another
    /// vector (`CONTRACT.md`, B-04), and only where vectors can be allocated at any time.
    fn reclaim(&mut self, msi_type: MsiType, number: u32) -> bool {
        let _ = (msi_type, number);
        false
    }

    /// Opens or closes the gate of a started vector. Called on changes only.
    fn set_mask(&mut self, msi_type: MsiType, number: u32, vector: &mut Self::Vector, mask: Mask);

    /// Signals the trigger as if the device had raised the vector.
    fn signal(&mut self, vector: &Self::Vector);

    /// A request is refused because of this vector. For platforms that count for longer than a
    /// vector is in use; the engine counts it too.
    fn record_failure(&mut self, number: u32) {
        let _ = number;
    }
}
