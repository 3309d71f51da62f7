// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is known of one vector. A slot exists only while there is something to know.

use crate::{Errno, Host, Mask};

/// Where slots are kept, by the number of their vector: the platform's own ordered map.
///
/// ```
/// use vfio_irq_engine::{Errno, Slots};
/// # use std::collections::BTreeMap;
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
/// # let mut map = Map::<u8>(BTreeMap::new());
/// # assert_eq!((map.reserve(2), map.first_from(1)), (Ok(()), Some(2)));
/// ```
pub trait Slots<S> {
    /// Makes room for a vector that has no slot, filled with the default. The only step that may
    /// fail: whatever is put in place of the default later takes no memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when there is no room.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Slots};
    ///
    /// let mut slots = Sim::new().slots::<u8>();
    /// slots.reserve(3)?;
    /// assert_eq!(slots.get(3), Some(&0), "the default");
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    fn reserve(&mut self, number: u32) -> Result<(), Errno>;

    /// The slot of a vector.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Slots};
    ///
    /// let mut slots = Sim::new().slots::<u8>();
    /// slots.reserve(3)?;
    /// assert_eq!((slots.get(2), slots.get(3)), (None, Some(&0)));
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    fn get(&self, number: u32) -> Option<&S>;

    /// The slot of a vector.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Slots};
    ///
    /// let mut slots = Sim::new().slots::<u8>();
    /// slots.reserve(3)?;
    /// if let Some(slot) = slots.get_mut(3) {
    ///     *slot = 7; // In place: nothing here can fail.
    /// }
    /// assert_eq!(slots.get(3), Some(&7));
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    fn get_mut(&mut self, number: u32) -> Option<&mut S>;

    /// Takes a slot out.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Slots};
    ///
    /// let mut slots = Sim::new().slots::<u8>();
    /// slots.reserve(3)?;
    /// assert_eq!((slots.remove(3), slots.remove(3)), (Some(0), None));
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    fn remove(&mut self, number: u32) -> Option<S>;

    /// The first vector from `number` on that has a slot.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Slots};
    ///
    /// let mut slots = Sim::new().slots::<u8>();
    /// for number in [9, 2, 500] {
    ///     slots.reserve(number)?;
    /// }
    /// // How the engine goes through a range: from one that is there to the next (B-06).
    /// assert_eq!((slots.first_from(3), slots.first_from(501)), (Some(9), None));
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    fn first_from(&self, number: u32) -> Option<u32>;
}

/// How often what was done to a vector (`CONTRACT.md`, B-05). Signals are counted where they
/// happen, by the platform.
///
/// ```
/// # use vfio_irq_engine::abi::{flags::*, Index};
/// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
/// let (one, other) = (sim.eventfd(), sim.eventfd());
/// attach(&mut device, &mut sim, Index::Msix, 0, &[one])?;
/// attach(&mut device, &mut sim, Index::Msix, 0, &[other])?;
/// ask(&mut device, &mut sim, Index::Msix, [DATA_NONE | ACTION_TRIGGER, 0, 1], &[])?; // Loopback.
/// let counts = device.vectors().slot(0).map(|slot| slot.counts()).unwrap_or_default();
/// assert_eq!((counts.retargets, counts.loopbacks, counts.masks), (1, 1, 0));
/// # Ok::<(), vfio_irq_engine::Refusal>(())
/// ```
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
/// Between requests a slot is never `Staged`, and `next` is `None`.
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
///
/// ```
/// # use vfio_irq_engine::abi::{flags::*, Index};
/// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
/// # let fd = sim.eventfd();
/// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
/// // Mask vector 1, before it is attached.
/// ask(&mut device, &mut sim, Index::Msix, [DATA_NONE | ACTION_MASK, 1, 1], &[])?;
/// let vectors = device.vectors();
/// assert!(vectors.slot(1).is_some_and(|slot| slot.vector().is_none()));
/// assert!(vectors.slot(2).is_none(), "nothing to know");
/// # Ok::<(), vfio_irq_engine::Refusal>(())
/// ```
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
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// # let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// let vector = device.vectors().slot(0).and_then(|slot| slot.vector());
    /// assert_eq!(vector.map(|vector| vector.fd()), Some(fd));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn vector(&self) -> Option<&H::Vector> {
        match &self.attachment {
            Attachment::Attached { vector, .. } => Some(vector),
            Attachment::Nothing | Attachment::Staged(_) => None,
        }
    }

    /// Whether it lets interrupts through.
    ///
    /// ```
    /// use vfio_irq_engine::Mask;
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// # let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// ask(&mut device, &mut sim, Index::Msix, [DATA_NONE | ACTION_MASK, 0, 1], &[])?;
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[-1])?; // Detach.
    /// // A mask outlives what is attached (B-03).
    /// assert_eq!(device.vectors().slot(0).map(|slot| slot.mask()), Some(Mask::Masked));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn mask(&self) -> Mask {
        self.mask
    }

    /// What was done to it so far.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// # let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// // Mask, twice.
    /// (0..2).try_for_each(|_| ask(&mut device, &mut sim, Index::Msix, [DATA_NONE | ACTION_MASK, 0, 1], &[]))?;
    /// // Changes are counted, not requests.
    /// assert_eq!(device.vectors().slot(0).map(|slot| slot.counts().masks), Some(1));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Nothing to remember: the slot may go.
    pub(crate) fn is_vacant(&self) -> bool {
        matches!(self.attachment, Attachment::Nothing) && self.mask == Mask::Unmasked
    }
}
