//! One vector: everything that a raise must know, in one word, and how often it was raised.
//!
//! ```text
//!   63    36   35         34     33     32         31         30      0
//!  ┌────────┬──────────┬──────┬──────┬──────────┬──────────┬──────────┐
//!  │ owner  │ masked   │ slow │ held │ masked   │ masked   │ eventfd  │
//!  │        │ function │      │      │ register │ request  │          │
//!  └────────┴──────────┴──────┴──────┴──────────┴──────────┴──────────┘
//! ```
//!
//! A raise holds its thread's pin ([`super::pins`]) while it uses the eventfd that it found in the word,
//! and never repeats a step. Whoever takes an eventfd away, or masks, first changes the word, then fences,
//! then waits for the pins of those who may have seen the old one: the vector *settles*. Of many vectors
//! that one request changes, all are changed first, and one fence is for all.
//!
//! The thread that raises a vector first *owns* its count, which it adds to without a locked instruction;
//! others count beside it. Detaching the vector ends that: nobody can own the count anew before whoever
//! detaches has waited for the old owner's last raise. When the owner ends, its pin's next thread owns the
//! count in its place, and has seen all that was counted.

use super::pins::{Numbered, Pin};
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of an interrupt.
///
/// ```
/// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd};
/// use vfio_irq_user::{IrqData, Raised};
/// use vfio_irq_user::abi::{Index, flags};
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// assert_eq!(bus.interrupts.raise(0), Raised::Dropped);
/// # let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
/// client.attach(Index::Msix, 0, &[fd.as_fd()])?;
/// assert_eq!(bus.interrupts.raise(0), Raised::Signalled);
/// client.set_irqs(Index::Msix, flags::ACTION_MASK, 0, IrqData::None(1))?;
/// assert_eq!(bus.interrupts.raise(0), Raised::Held);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Raised {
    /// The client was told.
    Signalled,
    /// The vector is masked: the client will be told once, when it is unmasked.
    Held,
    /// Nothing is attached to the vector, and nobody is owed anything.
    Dropped,
}

/// An atomic word with the fences around it; the real one, or loom's.
pub(crate) trait Word {
    /// Acquires.
    fn load(&self) -> u64;
    /// Releases.
    fn put(&self, value: u64);
    /// Neither: of a word that only the caller writes.
    fn peek(&self) -> u64;
    fn fetch_add(&self, value: u64) -> u64;
    fn fetch_or(&self, value: u64) -> u64;
    fn fetch_and(&self, value: u64) -> u64;
    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64>;
    /// Between what a thread says it uses and what it reads of it.
    fn light_fence();
    /// Between a change and the look at who uses what it changes.
    fn heavy_fence();
}

macro_rules! word {
    ($atomic:ty, $light:expr, $heavy:expr) => {
        impl $crate::irq::cell::Word for $atomic {
            #[inline]
            fn load(&self) -> u64 {
                self.load(Ordering::Acquire)
            }
            #[inline]
            fn put(&self, value: u64) {
                self.store(value, Ordering::Release);
            }
            #[inline]
            fn peek(&self) -> u64 {
                self.load(Ordering::Relaxed)
            }
            #[inline]
            fn fetch_add(&self, value: u64) -> u64 {
                self.fetch_add(value, Ordering::AcqRel)
            }
            #[inline]
            fn fetch_or(&self, value: u64) -> u64 {
                self.fetch_or(value, Ordering::AcqRel)
            }
            #[inline]
            fn fetch_and(&self, value: u64) -> u64 {
                self.fetch_and(value, Ordering::AcqRel)
            }
            #[inline]
            fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
                self.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
            }
            #[inline]
            fn light_fence() {
                $light
            }
            fn heavy_fence() {
                $heavy
            }
        }
    };
}
word!(AtomicU64, super::fences::light(), super::pins::heavy_fence());

/// What a cell needs of its process; a test's own in tests.
pub(crate) trait Process<W> {
    /// Writes to an eventfd. The caller holds a pin, or is the one that changes eventfds.
    fn signal(&self, target: Target);
    /// The pins of all threads that may raise.
    fn each_pin(&self, visit: impl FnMut(&Pin<W>));
}

const EVENTFD: u64 = 0x7fff_ffff;
const HELD: u64 = 1 << 33;
const SLOW: u64 = 1 << 34;
/// The number of the pin whose thread owns the count; 0 for nobody's.
const OWNER_AT: u32 = 36;
const OWNER: u64 = u64::MAX << OWNER_AT;
/// Numbers that fit.
const OWNERS: u64 = OWNER >> OWNER_AT;
const MASKED: u64 =
    MaskSource::Request.bit() | MaskSource::Register.bit() | MaskSource::Function.bit();

/// Who masked a vector. It is open when nobody did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MaskSource {
    /// SET_IRQS.
    Request,
    /// MSI's mask register.
    Register,
    /// The function mask of MSI-X.
    Function,
}

impl MaskSource {
    const fn bit(self) -> u64 {
        match self {
            Self::Request => 1 << 31,
            Self::Register => 1 << 32,
            Self::Function => 1 << 35,
        }
    }
}

/// An eventfd as the word holds it: 31 bits of descriptor, and whether writing to it may block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    pub(crate) fd: u32,
    pub(crate) may_block: bool,
}

impl Target {
    const fn to_word(self) -> u64 {
        (self.fd as u64 & EVENTFD) | if self.may_block { SLOW } else { 0 }
    }

    /// The eventfd of a word; `None` when nothing is attached.
    const fn of(word: u64) -> Option<Self> {
        match word & EVENTFD {
            EVENTFD => None,
            // Thirty-one bits.
            #[allow(clippy::cast_possible_truncation)]
            fd => Some(Self { fd: fd as u32, may_block: word & SLOW != 0 }),
        }
    }
}

/// One vector. Raises come from any thread; everything else from one thread at a time, the one that
/// holds the device's [`super::IrqHost`].
pub(crate) struct Cell<W> {
    word: W,
    /// What the owner counts.
    own: W,
    /// What everybody else counts.
    others: W,
}

impl<W: Word> Cell<W> {
    /// A vector with nothing attached; `word` makes an atomic word of a value.
    pub(crate) fn new(word: impl Fn(u64) -> W) -> Self {
        Self { word: word(EVENTFD), own: word(0), others: word(0) }
    }

    /// What a pin calls this cell.
    fn name(&self) -> u64 {
        std::ptr::from_ref(self).addr() as u64
    }

    /// The device raises the vector. The pin is the calling thread's.
    #[inline]
    pub(crate) fn raise(&self, by: Numbered<'_, W>, process: &impl Process<W>) -> Raised {
        by.pin.begin(self.name());
        let seen = self.word.load();
        let raised = match Target::of(seen) {
            None => Raised::Dropped,
            Some(target) if seen & MASKED == 0 => {
                process.signal(target);
                self.count(seen, by.number);
                Raised::Signalled
            }
            Some(_) => {
                let raised = self.hold(process);
                self.count(seen, by.number);
                raised
            }
        };
        by.pin.end();
        raised
    }

    /// Does something to the eventfd that is attached, which nobody closes meanwhile. The pin is the
    /// calling thread's.
    pub(crate) fn with_target(&self, by: Numbered<'_, W>, act: impl FnOnce(Target)) {
        by.pin.begin(self.name());
        if let Some(target) = self.target() {
            act(target);
        }
        by.pin.end();
    }

    /// Counts one interrupt of a raise that found `seen`, and still holds its pin.
    #[inline]
    fn count(&self, seen: u64, number: u64) {
        let owned = seen >> OWNER_AT == number && number != 0;
        if owned || (seen & OWNER == 0 && self.own(seen, number)) {
            self.own.put(self.own.peek().wrapping_add(1));
        } else {
            self.others.fetch_add(1);
        }
    }

    /// Makes the count the caller's. Only as long as the word is what the raise found: had the vector
    /// been detached meanwhile, the owner of then might still count.
    #[cold]
    fn own(&self, seen: u64, number: u64) -> bool {
        let fits = number != 0 && number <= OWNERS;
        fits && self.word.compare_exchange(seen, seen | number << OWNER_AT).is_ok()
    }

    /// Interrupts that were raised, whether signalled or held.
    pub(crate) fn counted(&self) -> u64 {
        self.own.load().wrapping_add(self.others.load())
    }

    /// Leaves the interrupt to whoever unmasks the vector, unless that has happened meanwhile.
    fn hold(&self, process: &impl Process<W>) -> Raised {
        let seen = self.word.fetch_or(HELD);
        if seen & MASKED != 0 {
            return Raised::Held;
        }
        self.release(process);
        Raised::Signalled
    }

    /// Signals an interrupt that is held, if one is. The caller has pinned the word, or is the one
    /// that changes eventfds.
    fn release(&self, process: &impl Process<W>) {
        let seen = self.word.fetch_and(!HELD);
        if let Some(target) = Target::of(seen).filter(|_| seen & HELD != 0) {
            process.signal(target);
        }
    }

    /// Whether an interrupt is held.
    pub(crate) fn is_held(&self) -> bool {
        self.word.load() & HELD != 0
    }

    /// What is attached.
    pub(crate) fn target(&self) -> Option<Target> {
        Target::of(self.word.load())
    }

    /// Whether something is attached.
    pub(crate) fn is_attached(&self) -> bool {
        self.target().is_some()
    }

    /// Whether anybody masks it.
    pub(crate) fn is_masked(&self) -> bool {
        self.word.load() & MASKED != 0
    }

    /// Masks the vector. What was raised before may still be signalled until it has settled.
    pub(crate) fn mask(&self, mask: MaskSource) {
        self.word.fetch_or(mask.bit());
    }

    /// Unmasks the vector, and signals what is held unless it is masked otherwise.
    pub(crate) fn unmask(&self, mask: MaskSource, process: &impl Process<W>) {
        let seen = self.word.fetch_and(!mask.bit());
        if seen & MASKED & !mask.bit() == 0 {
            self.release(process);
        }
    }

    /// Attaches an eventfd, or replaces the one there is; whether there was one, which may be used
    /// until the vector has settled. What `mask_request` says holds from then on, and an open vector
    /// signals what it holds.
    ///
    /// A vector that was detached has settled before it is attached again: the count may have another
    /// owner from then on.
    pub(crate) fn attach(
        &self,
        target: Target,
        mask_request: Option<bool>,
        process: &impl Process<W>,
    ) -> bool {
        let keep = !(EVENTFD | SLOW);
        let seen = self.update(|word| {
            let gate = match mask_request {
                None => word & keep,
                Some(true) => word & keep | MaskSource::Request.bit(),
                Some(false) => word & keep & !MaskSource::Request.bit(),
            };
            gate | target.to_word()
        });
        if self.word.load() & MASKED == 0 {
            self.release(process);
        }
        Target::of(seen).is_some()
    }

    /// Detaches. The eventfd may be used until the vector has settled. Masks stay, and so does what is
    /// held.
    pub(crate) fn detach(&self) {
        self.update(|word| word & !(SLOW | OWNER) | EVENTFD);
    }

    /// Forgets what is held.
    pub(crate) fn forget(&self) {
        self.word.fetch_and(!HELD);
    }

    /// Forgets what is held and who masked it by request.
    pub(crate) fn clear(&self) {
        self.word.fetch_and(!(HELD | MaskSource::Request.bit()));
    }

    fn update(&self, change: impl Fn(u64) -> u64) -> u64 {
        let mut seen = self.word.load();
        loop {
            match self.word.compare_exchange(seen, change(seen)) {
                Ok(before) => return before,
                Err(now) => seen = now,
            }
        }
    }

    /// Waits until every raise is over that may have seen the word as it was before the caller's heavy
    /// fence: the vector has settled.
    pub(crate) fn settle(&self, process: &impl Process<W>, mut pause: impl FnMut(u32)) {
        process.each_pin(|pin| pin.wait(self.name(), &mut pause));
    }
}

#[cfg(test)]
mod tests;
