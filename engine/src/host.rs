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
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host};
    ///
    /// let mut sim = Sim::new();
    /// let fd = sim.eventfd();
    /// let trigger: <Sim as Host>::Trigger = sim.resolve(fd)?;
    /// assert!(sim.leaks().is_some(), "somebody has a reference");
    /// drop(trigger);
    /// assert_eq!(sim.leaks(), None);
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    type Trigger;
    /// An interrupt that is allocated for a vector, with a trigger, closed until it is started.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host, MsiType};
    ///
    /// let mut sim = Sim::new();
    /// sim.enable(MsiType::Msix, 1)?;
    /// let fd = sim.eventfd();
    /// let trigger = sim.resolve(fd)?;
    /// let vector: <Sim as Host>::Vector = sim.prepare(MsiType::Msix, 0, trigger)?;
    /// // It owns its trigger, and is closed.
    /// sim.raise(0);
    /// assert_eq!((vector.fd(), sim.signals(fd)), (fd, 0));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    type Vector;
    /// Where what is known of each vector is kept.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host, Slots};
    ///
    /// let sim = Sim::new();
    /// let mut slots: <Sim as Host>::Slots = sim.slots();
    /// slots.reserve(1000)?;
    /// // Memory for one slot, wherever it is (B-06).
    /// assert_eq!(slots.first_from(0), Some(1000));
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    type Slots: Slots<Slot<Self>>;

    /// Returns the number of vectors of MSI or of MSI-X; 0 if the device has none.
    ///
    /// ```
    /// use vfio_irq_engine::sim::{IrqCaps, Sim};
    /// use vfio_irq_engine::{Host, MsiType};
    ///
    /// let sim = Sim::with(IrqCaps { msi: 0, ..IrqCaps::default() });
    /// assert_eq!(sim.count(MsiType::Msi), 0, "there is no such capability");
    /// ```
    fn count(&self, msi_type: MsiType) -> u32;

    /// Returns true if vectors can be added while others are in use.
    ///
    /// ```
    /// use vfio_irq_engine::sim::{IrqCaps, Sim};
    /// use vfio_irq_engine::{abi::flags, Host, MsiType, Vectors};
    ///
    /// // Linux before 6.5: what is enabled is all there will be (I-05).
    /// let sim = Sim::with(IrqCaps { dynamic: false, ..IrqCaps::default() });
    /// assert!(!sim.dynamic(MsiType::Msix));
    /// assert_ne!(Vectors::info(&sim, MsiType::Msix).flags & flags::INFO_NORESIZE, 0);
    /// ```
    fn dynamic(&self, msi_type: MsiType) -> bool;

    /// Returns true if single vectors can be masked.
    ///
    /// ```
    /// use vfio_irq_engine::sim::{IrqCaps, Sim};
    /// use vfio_irq_engine::{Host, MsiType};
    ///
    /// // MSI may have mask bits; every entry of an MSI-X table has one (I-07).
    /// let sim = Sim::with(IrqCaps { msi_maskable: false, ..IrqCaps::default() });
    /// assert!(!sim.maskable(MsiType::Msi) && sim.maskable(MsiType::Msix));
    /// ```
    fn maskable(&self, msi_type: MsiType) -> bool;

    /// The eventfd behind a descriptor of user space.
    ///
    /// # Errors
    ///
    /// `EBADF` when it is not open, `EINVAL` when it is no eventfd (`CONTRACT.md`, V-10).
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Errno, Host};
    ///
    /// let mut sim = Sim::new();
    /// let (fd, other) = (sim.eventfd(), sim.other_file());
    /// assert!(sim.resolve(fd).is_ok());
    /// // V-10: not open, and no eventfd.
    /// assert!(matches!(sim.resolve(99), Err(Errno::EBADF)));
    /// assert!(matches!(sim.resolve(other), Err(Errno::EINVAL)));
    /// ```
    fn resolve(&mut self, fd: i32) -> Result<Self::Trigger, Errno>;

    /// Enables MSI or MSI-X with so many vectors allocated, at least 1, none attached. All or nothing.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooFew`] when there are some and not enough, `ENOSPC` when there are none
    /// (`CONTRACT.md`, V-06); what else the platform answers.
    ///
    /// ```
    /// use vfio_irq_engine::sim::{IrqCaps, Sim};
    /// use vfio_irq_engine::{Host, MsiType, Refusal};
    ///
    /// let mut sim = Sim::with(IrqCaps { interrupts: 2, ..IrqCaps::default() });
    /// assert_eq!(sim.enable(MsiType::Msix, 3), Err(Refusal::TooFew(2)));
    /// assert_eq!(sim.allocated(), 0, "not two of three");
    /// assert!(sim.enable(MsiType::Msix, 2).is_ok());
    /// ```
    fn enable(&mut self, msi_type: MsiType, vectors: u32) -> Result<Size, Refusal>;

    /// Disables MSI or MSI-X and gives all interrupts back. No vector is attached any more.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host, MsiType};
    ///
    /// let mut sim = Sim::new();
    /// sim.enable(MsiType::Msi, 8)?;
    /// sim.disable(MsiType::Msi);
    /// assert_eq!(sim.allocated(), 0);
    /// sim.disable(MsiType::Msi); // The engine never does that, and the simulation would tell.
    /// assert_eq!(sim.broken_promises().len(), 1);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn disable(&mut self, msi_type: MsiType);

    /// Gets an interrupt for the vector (a new one where it has none yet) and readies it for the
    /// trigger, but lets nothing through.
    ///
    /// # Errors
    ///
    /// `ENOSPC` and `ENOMEM` when it cannot be had (`CONTRACT.md`, V-08); the trigger is given up then.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Errno, Host, MsiType};
    ///
    /// let mut sim = Sim::new();
    /// sim.enable(MsiType::Msix, 1)?;
    /// sim.set_interrupts(1);
    /// # let fd = sim.eventfd();
    /// let trigger = sim.resolve(fd)?;
    /// // Vector 0 has its interrupt since it was enabled; for another there is none left (V-08).
    /// assert!(matches!(sim.prepare(MsiType::Msix, 1, trigger), Err(Errno::ENOSPC)));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn prepare(
        &mut self,
        msi_type: MsiType,
        number: u32,
        trigger: Self::Trigger,
    ) -> Result<Self::Vector, Errno>;

    /// Undoes [`Host::prepare`]: an interrupt that it allocated goes back, one that was there stays.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host, MsiType};
    ///
    /// let mut sim = Sim::new();
    /// sim.enable(MsiType::Msix, 1)?;
    /// # let fd = sim.eventfd();
    /// let trigger = sim.resolve(fd)?;
    /// let vector = sim.prepare(MsiType::Msix, 9, trigger)?;
    /// assert_eq!(sim.allocated(), 2);
    /// sim.abandon(MsiType::Msix, 9, vector); // A later step has failed.
    /// assert_eq!(sim.allocated(), 1);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn abandon(&mut self, msi_type: MsiType, number: u32, vector: Self::Vector);

    /// Lets interrupts of a prepared vector through, unless its gate is masked.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Mask, Host, MsiType};
    ///
    /// let mut sim = Sim::new();
    /// sim.enable(MsiType::Msix, 1)?;
    /// let fd = sim.eventfd();
    /// let trigger = sim.resolve(fd)?;
    /// let mut vector = sim.prepare(MsiType::Msix, 0, trigger)?;
    /// sim.raise(0); // Comes before the request is carried out, and is held.
    /// sim.start(MsiType::Msix, 0, &mut vector, Mask::Unmasked);
    /// assert_eq!(sim.signals(fd), 1);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn start(&mut self, msi_type: MsiType, number: u32, vector: &mut Self::Vector, mask: Mask);

    /// Whether attaching this trigger would change nothing: the vector signals this very eventfd,
    /// and the platform sees no reason to write anew what makes it work.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// let before = device.vectors().slot(0).map(|slot| slot.counts());
    /// // The eventfd that is there already: nothing happens, and nothing is counted (B-02).
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// assert_eq!(device.vectors().slot(0).map(|slot| slot.counts()), before);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
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
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let (old, new) = (sim.eventfd(), sim.eventfd());
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[old])?;
    /// sim.raise(0);
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[new])?;
    /// sim.raise(0);
    /// assert_eq!((sim.signals(old), sim.signals(new), sim.lost()), (1, 1, 0));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
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
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Mask, Host, MsiType};
    ///
    /// let mut sim = Sim::new();
    /// sim.enable(MsiType::Msix, 1)?;
    /// # let fd = sim.eventfd();
    /// let trigger = sim.resolve(fd)?;
    /// let mut vector = sim.prepare(MsiType::Msix, 0, trigger)?;
    /// sim.start(MsiType::Msix, 0, &mut vector, Mask::Unmasked);
    /// sim.stop(MsiType::Msix, 0, vector);
    /// sim.raise(0);
    /// // Nobody is told, and the interrupt is still the device's.
    /// assert_eq!((sim.lost(), sim.allocated()), (1, 1));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn stop(&mut self, msi_type: MsiType, number: u32, vector: Self::Vector);

    /// Gives the interrupt of a vector without a trigger back to the machine, if it has one. Returns
    /// true if it had. The engine calls this when the machine has no interrupt left for another
    /// vector (`CONTRACT.md`, B-04), and only where vectors can be allocated at any time.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host, MsiType};
    ///
    /// let mut sim = Sim::new();
    /// sim.enable(MsiType::Msix, 2)?;
    /// assert!(sim.reclaim(MsiType::Msix, 1));
    /// assert!(!sim.reclaim(MsiType::Msix, 1), "it has none any more");
    /// assert_eq!(sim.allocated(), 1);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn reclaim(&mut self, msi_type: MsiType, number: u32) -> bool {
        let _ = (msi_type, number);
        false
    }

    /// Opens or closes the gate of a started vector. Called on changes only.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// # let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// ask(&mut device, &mut sim, Index::Msix, [DATA_NONE | ACTION_MASK, 0, 1], &[])?;
    /// // Masked already: the platform is not asked.
    /// ask(&mut device, &mut sim, Index::Msix, [DATA_NONE | ACTION_MASK, 0, 1], &[])?;
    /// assert!(sim.broken_promises().is_empty());
    /// sim.raise(0);
    /// assert!(sim.pending(0));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn set_mask(&mut self, msi_type: MsiType, number: u32, vector: &mut Self::Vector, mask: Mask);

    /// Signals the trigger as if the device had raised the vector.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// // The loopback (V-04): no device was asked for anything, so a mask does not matter.
    /// ask(&mut device, &mut sim, Index::Msix, [DATA_NONE | ACTION_MASK, 0, 1], &[])?;
    /// ask(&mut device, &mut sim, Index::Msix, [DATA_NONE | ACTION_TRIGGER, 0, 1], &[])?;
    /// assert_eq!(sim.signals(fd), 1);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn signal(&mut self, vector: &Self::Vector);

    /// A request is refused because of this vector. For platforms that count for longer than a
    /// vector is in use; the engine counts it too.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host};
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// # let fds = [sim.eventfd(), sim.other_file()];
    /// sim.record_failure(1); // Nothing: the simulation leaves counting to the engine.
    /// assert!(attach(&mut device, &mut sim, Index::Msix, 0, &fds).is_err());
    /// // Vector 1 was at fault; as it has no slot, the total alone has it.
    /// assert_eq!(device.vectors().totals().gone.failures, 1);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn record_failure(&mut self, number: u32) {
        let _ = number;
    }
}
