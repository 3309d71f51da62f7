// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the engine asks of its platform.
//!
//! Steps that may fail return `Result` and are only ever taken while a request is prepared; each
//! has a step beside it that undoes it. Steps that carry a request out return nothing: they cannot
//! fail. The engine never holds a lock and never asks for one: `&mut self` everywhere, locks belong
//! to the platform.

use crate::{Errno, Event, Refusal, Slot, Slots};

/// The two kinds of message signalled interrupts. Never both at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// MSI: a block of vectors, enabled as a set.
    Msi,
    /// MSI-X: a table of vectors.
    Msix,
}

/// Whether a vector lets interrupts through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Gate {
    /// Interrupts are signalled.
    #[default]
    Open,
    /// Interrupts are held by the device and signalled once when the gate opens.
    Masked,
}

/// How many vectors an enabled kind can have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Size {
    /// These and no more until it is disabled (NORESIZE).
    Fixed(u32),
    /// Any vector of the table, whenever it is asked for.
    Growing,
}

/// What becomes of the interrupt of a vector that is detached (`CONTRACT.md`, B-04).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Retention {
    /// It stays allocated until the index is disabled, as in Linux. (What the platform takes at
    /// attach, as a vector of a processor on x86, may be gone when it is attached again.)
    #[default]
    Keep,
    /// It goes back to the platform, for machines that are short of interrupts.
    Free,
}

/// A platform with MSI and MSI-X.
///
/// # What the engine promises
///
/// - `enable` and `disable` alternate, and every other step on vectors happens between them.
/// - A [`Host::Vector`] from `prepare` goes to exactly one of `abandon` (the request failed), or
///   `start` (it did not) and in the end `stop`.
/// - A [`Host::Watch`] from `watch` goes to exactly one `unwatch`.
/// - Dropping a [`Host::Trigger`] gives up the reference to the eventfd.
pub trait Host: Sized {
    /// A reference to an eventfd, given up when dropped.
    type Trigger;
    /// An interrupt that is allocated for a vector, with a trigger, closed until it is started.
    type Vector;
    /// An eventfd of user space that masks or unmasks a vector when it is signalled.
    type Watch;
    /// Where what is known of each vector is kept.
    type Slots: Slots<Slot<Self>>;

    /// Number of vectors of the kind; 0 when the device has none.
    fn count(&self, kind: Kind) -> u32;

    /// Whether vectors of the kind can be added while others are in use.
    fn growing(&self, kind: Kind) -> bool;

    /// Whether single vectors of the kind can be masked.
    fn maskable(&self, kind: Kind) -> bool;

    /// What becomes of interrupts of vectors that are detached while others stay.
    fn retention(&self) -> Retention {
        Retention::Keep
    }

    /// The eventfd behind a descriptor of user space.
    fn resolve(&mut self, fd: i32) -> Result<Self::Trigger, Errno>;

    /// Turns the kind on with so many vectors allocated, at least 1, none attached. All or nothing.
    fn enable(&mut self, kind: Kind, vectors: u32) -> Result<Size, Refusal>;

    /// Turns the kind off and gives all its interrupts back. No vector is attached any more.
    fn disable(&mut self, kind: Kind);

    /// Gets an interrupt for the vector (a new one where it has none yet) and readies it for the
    /// trigger, but lets nothing through.
    fn prepare(
        &mut self,
        kind: Kind,
        number: u32,
        trigger: Self::Trigger,
    ) -> Result<Self::Vector, Errno>;

    /// Undoes [`Host::prepare`]: an interrupt that it allocated goes back, one that was there stays.
    fn abandon(&mut self, kind: Kind, number: u32, vector: Self::Vector);

    /// Lets interrupts of a prepared vector through, unless its gate is masked.
    fn start(&mut self, kind: Kind, number: u32, vector: &mut Self::Vector, gate: Gate);

    /// Whether attaching this trigger would change nothing: the vector signals this very eventfd,
    /// and the platform sees no reason to write anew what makes it work.
    fn is_settled(
        &mut self,
        kind: Kind,
        number: u32,
        vector: &Self::Vector,
        trigger: &Self::Trigger,
        gate: Gate,
    ) -> bool;

    /// First half of [`Host::retarget`], called for every vector of a request before any of them is
    /// given its new trigger: undo what ties the old trigger to the interrupt *beside* the handler
    /// (irq bypass). Interrupts go on to the old trigger.
    fn untie(&mut self, vector: &mut Self::Vector) {
        let _ = vector;
    }

    /// Replaces the trigger. An interrupt that arrives meanwhile is signalled on the old one or on
    /// the new one, never on none (`CONTRACT.md`, B-02).
    fn retarget(
        &mut self,
        kind: Kind,
        number: u32,
        vector: &mut Self::Vector,
        trigger: Self::Trigger,
        gate: Gate,
    );

    /// Takes the trigger off the vector. With [`Retention::Free`] its interrupt goes back.
    fn stop(&mut self, kind: Kind, number: u32, vector: Self::Vector, retention: Retention);

    /// Opens or closes the gate of a started vector. Called on changes only.
    fn set_gate(&mut self, kind: Kind, vector: &mut Self::Vector, gate: Gate);

    /// Signals the trigger as if the device had raised the vector.
    fn signal(&mut self, vector: &Self::Vector);

    /// A request is refused because of this vector. For platforms that count for longer than a
    /// vector is in use; the engine counts it too.
    fn blame(&mut self, number: u32) {
        let _ = number;
    }

    /// Has the platform call [`crate::Vectors::watch_fired`] whenever the eventfd is signalled.
    fn watch(&mut self, number: u32, gate: Gate, fd: i32) -> Result<Self::Watch, Errno>;

    /// Whether the watch still does anything: an eventfd that user space closed for good may take
    /// its watch with it, and its place is then free.
    fn watching(&self, watch: &Self::Watch) -> bool {
        let _ = watch;
        true
    }

    /// Undoes [`Host::watch`].
    fn unwatch(&mut self, watch: Self::Watch);
}

/// A platform that keeps the triggers of ERR and REQ.
pub trait EventHost: Host {
    /// Whether the event has a trigger.
    fn event_is_set(&self, event: Event) -> bool;

    /// Replaces or clears the trigger of the event. The only step of its request, so it may fail,
    /// and has then changed nothing; clearing cannot fail.
    fn event_set(&mut self, event: Event, trigger: Option<Self::Trigger>) -> Result<(), Errno>;

    /// Signals the trigger of the event, if it has one.
    fn event_signal(&mut self, event: Event);
}

/// A platform that brings the interrupt line.
pub trait LineHost: Host {
    /// Whether the device has an interrupt pin.
    fn line_present(&self) -> bool;

    /// Readies the line, masked as the device's command register says, with nothing to signal.
    /// `ENODEV` where the pin leads nowhere.
    fn line_enable(&mut self) -> Result<(), Errno>;

    /// Gives the line back.
    fn line_disable(&mut self);

    /// What the line signals from now on; `None`: nothing, its handler stays.
    fn line_target(&mut self, trigger: Option<Self::Trigger>);

    /// Masks or unmasks the line. A line that is still asserted signals again when unmasked.
    fn line_set_gate(&mut self, gate: Gate);

    /// Signals the line's trigger, if it has one, as if the device had raised it.
    fn line_signal(&mut self);

    /// Has the platform unmask the line whenever the eventfd is signalled.
    fn line_watch(&mut self, fd: i32) -> Result<Self::Watch, Errno>;
}
