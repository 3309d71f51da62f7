//! One vector: everything that a raise must know, in one word.
//!
//! ```text
//!   63    56 55      46 45      36 35     34     33     32         31         30      0
//!  ┌────────┬──────────┬──────────┬──────┬──────┬──────┬──────────┬──────────┬──────────┐
//!  │ count  │ pins, 1  │ pins, 0  │ slow │ turn │ held │ masked   │ masked   │ eventfd  │
//!  │        │          │          │      │      │      │ register │ request  │          │
//!  └────────┴──────────┴──────────┴──────┴──────┴──────┴──────────┴──────────┴──────────┘
//! ```
//!
//! A raise *pins* the word while it uses the eventfd that it found there: one load, one addition, the
//! write, one addition that takes the pin back and counts, and it never repeats a step. Whoever takes an eventfd away first replaces
//! it in the word, then waits until the pins of either *turn* have been gone once; a pin that is taken
//! later found the new eventfd. Raises go on meanwhile on the other turn, so the wait ends.

use super::trigger::Signal;
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Raised {
    /// The client was told.
    Signalled,
    /// The vector is masked: the client will be told once, when it is unmasked.
    Held,
    /// Nothing is attached to the vector, and nobody is owed anything.
    Dropped,
}

/// An atomic word; the real one, or loom's.
pub(crate) trait Word {
    fn load(&self) -> u64;
    fn fetch_add(&self, value: u64) -> u64;
    fn fetch_sub(&self, value: u64) -> u64;
    fn fetch_or(&self, value: u64) -> u64;
    fn fetch_and(&self, value: u64) -> u64;
    fn fetch_xor(&self, value: u64) -> u64;
    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64>;
}

macro_rules! word {
    ($atomic:ty) => {
        impl $crate::irq::cell::Word for $atomic {
            #[inline]
            fn load(&self) -> u64 {
                self.load(Ordering::Acquire)
            }
            #[inline]
            fn fetch_add(&self, value: u64) -> u64 {
                self.fetch_add(value, Ordering::AcqRel)
            }
            #[inline]
            fn fetch_sub(&self, value: u64) -> u64 {
                self.fetch_sub(value, Ordering::AcqRel)
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
            fn fetch_xor(&self, value: u64) -> u64 {
                self.fetch_xor(value, Ordering::AcqRel)
            }
            #[inline]
            fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
                self.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
            }
        }
    };
}
word!(AtomicU64);

const EVENTFD: u64 = 0x7fff_ffff;
const HELD: u64 = 1 << 33;
const TURN: u64 = 1 << 34;
const SLOW: u64 = 1 << 35;
/// One raise of either turn; a thousand threads may raise one vector at a time.
const PIN: [u64; 2] = [1 << 36, 1 << 46];
const PINS: u64 = (1 << 10) - 1;
/// One interrupt. The highest bits, so that what does not fit is lost and nothing else.
const COUNT: u64 = 1 << COUNT_AT;
const COUNT_AT: u32 = 56;
/// How many interrupts the word itself counts.
pub(crate) const COUNTED: u64 = 1 << (64 - COUNT_AT);
const MASKED: u64 = Mask::Request.bit() | Mask::Register.bit();

/// Who masked a vector. It is open when nobody did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mask {
    /// SET_IRQS.
    Request,
    /// A register of the device's own: MSI's mask bits, MSI-X's function mask.
    Register,
}

impl Mask {
    const fn bit(self) -> u64 {
        match self {
            Self::Request => 1 << 31,
            Self::Register => 1 << 32,
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
}

impl<W: Word> Cell<W> {
    /// What the word of a vector with nothing attached is.
    pub(crate) const IDLE: u64 = EVENTFD;

    pub(crate) const fn new(word: W) -> Self {
        Self { word }
    }

    /// The device raises the vector. `full` is called when the word has counted [`COUNTED`] of them
    /// and begins anew.
    #[inline]
    pub(crate) fn raise(&self, signal: &impl Signal, full: impl FnOnce()) -> Raised {
        let seen = self.word.load();
        if Target::of(seen).is_none() {
            return Raised::Dropped;
        }
        let pin = if seen & TURN == 0 { PIN[0] } else { PIN[1] };
        let seen = self.word.fetch_add(pin);
        let raised = match Target::of(seen) {
            None => {
                self.word.fetch_sub(pin);
                return Raised::Dropped;
            }
            Some(target) if seen & MASKED == 0 => {
                signal.signal(target);
                Raised::Signalled
            }
            Some(_) => self.hold(signal),
        };
        let before = self.word.fetch_add(COUNT - pin);
        if before >> COUNT_AT == COUNTED - 1 {
            full();
        }
        raised
    }

    /// Interrupts since the word began anew.
    pub(crate) fn counted(&self) -> u64 {
        self.word.load() >> COUNT_AT
    }

    /// Leaves the interrupt to whoever unmasks the vector, unless that has happened meanwhile.
    fn hold(&self, signal: &impl Signal) -> Raised {
        let seen = self.word.fetch_or(HELD);
        if seen & MASKED != 0 {
            return Raised::Held;
        }
        self.release(signal);
        Raised::Signalled
    }

    /// Signals an interrupt that is held, if one is. The caller has pinned the word, or is the one
    /// that changes eventfds.
    fn release(&self, signal: &impl Signal) {
        let seen = self.word.fetch_and(!HELD);
        if let Some(target) = Target::of(seen).filter(|_| seen & HELD != 0) {
            signal.signal(target);
        }
    }

    /// Whether an interrupt is held.
    pub(crate) fn is_held(&self) -> bool {
        self.word.load() & HELD != 0
    }

    /// Whether something is attached.
    pub(crate) fn is_attached(&self) -> bool {
        Target::of(self.word.load()).is_some()
    }

    /// Whether anybody masks it.
    pub(crate) fn is_masked(&self) -> bool {
        self.word.load() & MASKED != 0
    }

    /// Masks the vector. When this returns, nothing is signalled any more.
    pub(crate) fn mask(&self, mask: Mask, pause: impl FnMut(u32)) {
        self.word.fetch_or(mask.bit());
        self.settle(pause);
    }

    /// Unmasks the vector, and signals what is held unless it is masked otherwise.
    pub(crate) fn unmask(&self, mask: Mask, signal: &impl Signal) {
        let seen = self.word.fetch_and(!mask.bit());
        if seen & MASKED & !mask.bit() == 0 {
            self.release(signal);
        }
    }

    /// Attaches an eventfd, or replaces the one there is. What `mask_request` says holds from then
    /// on, and an open vector signals what it holds. When this returns, the old eventfd is used no
    /// more.
    pub(crate) fn attach(
        &self,
        target: Target,
        mask_request: Option<bool>,
        signal: &impl Signal,
        pause: impl FnMut(u32),
    ) {
        let keep = !(EVENTFD | SLOW);
        let seen = self.update(|word| {
            let gate = match mask_request {
                None => word & keep,
                Some(true) => word & keep | Mask::Request.bit(),
                Some(false) => word & keep & !Mask::Request.bit(),
            };
            gate | target.to_word()
        });
        if Target::of(seen).is_some() {
            self.settle(pause);
        }
        if self.word.load() & MASKED == 0 {
            self.release(signal);
        }
    }

    /// Detaches. When this returns, the eventfd is used no more. Masks stay, and so does what is held.
    pub(crate) fn detach(&self, pause: impl FnMut(u32)) {
        self.update(|word| word & !SLOW | EVENTFD);
        self.settle(pause);
    }

    /// Forgets what is held.
    pub(crate) fn forget(&self) {
        self.word.fetch_and(!HELD);
    }

    /// Forgets what is held and who masked it by request.
    pub(crate) fn clear(&self) {
        self.word.fetch_and(!(HELD | Mask::Request.bit()));
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

    /// Waits until every raise that may have seen the word as it was is over.
    fn settle(&self, mut pause: impl FnMut(u32)) {
        for _ in 0..2 {
            let before = self.word.fetch_xor(TURN);
            let shift = if before & TURN == 0 { PIN[0] } else { PIN[1] }.trailing_zeros();
            let mut turns = 0_u32;
            while (self.word.load() >> shift) & PINS != 0 {
                pause(turns);
                turns = turns.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
