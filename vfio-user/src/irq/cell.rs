//! One vector: one word with everything that a raise needs, and the counts.
//!
//! ```text
//!   63    36   35         34     33     32         31         30      0
//!  ┌────────┬──────────┬──────┬──────┬──────────┬──────────┬──────────┐
//!  │ owner  │ masked   │ slow │ held │ masked   │ masked   │ eventfd  │
//!  │        │ function │      │      │ register │ request  │          │
//!  └────────┴──────────┴──────┴──────┴──────────┴──────────┴──────────┘
//! ```
//!
//! A raise protects the cell by the hazard pointer of its thread ([`super::hazard`]) while it uses
//! the eventfd of the word. A raise never retries.
//!
//! A request that detaches or masks changes the word first, fences second, and waits for the hazard
//! pointers last. Then no raise uses the old word: the vector has *settled*. If a request changes
//! several vectors, it changes all words and fences once.
//!
//! The thread that raises a vector first *owns* the count. It adds to `own` without a locked
//! instruction; other threads add to `others`. Detaching removes the owner. No thread can own the
//! count again before the detaching request has waited for the last raise of the old owner. If the
//! owner ends, the next owner of its hazard pointer owns the count, and sees the old value.

use super::hazard::{Hazard, Numbered};
use std::sync::atomic::{AtomicU64, Ordering};

/// The result of a raise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Raised {
    /// The server signalled the eventfd.
    Signalled,
    /// The vector is masked and now pending. The server signals the eventfd once, when the client
    /// unmasks the vector.
    Held,
    /// No eventfd is attached. The interrupt is lost.
    Dropped,
}

/// An atomic word with its fences: of the standard library, or of loom in tests.
pub(crate) trait Word {
    /// Loads with acquire ordering.
    fn load(&self) -> u64;
    /// Stores with release ordering.
    fn put(&self, value: u64);
    /// Loads without ordering. Use this for a word that only the caller writes.
    fn peek(&self) -> u64;
    fn fetch_add(&self, value: u64) -> u64;
    fn fetch_or(&self, value: u64) -> u64;
    fn fetch_and(&self, value: u64) -> u64;
    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64>;
    /// Fences between the store of a hazard pointer and the load of the cell.
    fn light_fence();
    /// Fences between the change of a cell and the load of the hazard pointers.
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
word!(AtomicU64, super::fences::light(), super::hazard::heavy_fence());

/// The effects of a cell on its process; tests implement it without eventfds.
pub(crate) trait Process<W> {
    /// Writes to an eventfd. The caller protects the cell by a hazard pointer, or is the thread
    /// that changes eventfds.
    fn signal(&self, target: Target);
    /// Calls `visit` with the hazard pointer of every thread that may raise.
    fn each_hazard(&self, visit: impl FnMut(&Hazard<W>));
}

const EVENTFD: u64 = 0x7fff_ffff;
const HELD: u64 = 1 << 33;
const SLOW: u64 = 1 << 34;
/// The number of the hazard pointer whose thread owns the count; 0 if no thread does.
const OWNER_AT: u32 = 36;
const OWNER: u64 = u64::MAX << OWNER_AT;
/// The greatest owner that fits into the word.
const OWNERS: u64 = OWNER >> OWNER_AT;
const MASKED: u64 =
    MaskSource::Request.bit() | MaskSource::Register.bit() | MaskSource::Function.bit();

/// The source of a mask. A vector is unmasked if no source masks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MaskSource {
    /// The client, by SET_IRQS.
    Request,
    /// The guest, by the mask register of MSI.
    Register,
    /// The guest, by the function mask of MSI-X.
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

/// The eventfd in a word: 31 bits of descriptor, and whether a write may block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    pub(crate) fd: u32,
    pub(crate) may_block: bool,
}

impl Target {
    const fn to_word(self) -> u64 {
        (self.fd as u64 & EVENTFD) | if self.may_block { SLOW } else { 0 }
    }

    /// Returns the eventfd of a word, or `None` if none is attached.
    const fn of(word: u64) -> Option<Self> {
        match word & EVENTFD {
            EVENTFD => None,
            // The mask leaves 31 bits.
            #[allow(clippy::cast_possible_truncation)]
            fd => Some(Self { fd: fd as u32, may_block: word & SLOW != 0 }),
        }
    }
}

/// One vector. Any thread may raise. Only the thread that holds the [`super::IrqHost`] of the
/// device calls the other methods.
pub(crate) struct Cell<W> {
    word: W,
    /// The count of the owner.
    own: W,
    /// The count of all other threads.
    others: W,
}

impl<W: Word> Cell<W> {
    /// Creates a vector without an eventfd. `word` makes an atomic word of a value.
    pub(crate) fn new(word: impl Fn(u64) -> W) -> Self {
        Self { word: word(EVENTFD), own: word(0), others: word(0) }
    }

    /// Returns the address by which a hazard pointer names this cell.
    fn name(&self) -> u64 {
        std::ptr::from_ref(self).addr() as u64
    }

    /// Raises the vector. `by` is the hazard pointer of the calling thread. Returns the result.
    #[inline]
    pub(crate) fn raise(&self, by: Numbered<'_, W>, process: &impl Process<W>) -> Raised {
        by.hazard.begin(self.name());
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
        by.hazard.end();
        raised
    }

    /// Calls `act` with the attached eventfd, if there is one. The hazard pointer, which belongs to
    /// the calling thread, keeps the eventfd open.
    pub(crate) fn with_target(&self, by: Numbered<'_, W>, act: impl FnOnce(Target)) {
        by.hazard.begin(self.name());
        if let Some(target) = self.target() {
            act(target);
        }
        by.hazard.end();
    }

    /// Counts one interrupt. The raise found `seen`, and its hazard pointer still protects the
    /// cell.
    #[inline]
    fn count(&self, seen: u64, number: u64) {
        let owned = seen >> OWNER_AT == number && number != 0;
        if owned || (seen & OWNER == 0 && self.own(seen, number)) {
            self.own.put(self.own.peek().wrapping_add(1));
        } else {
            self.others.fetch_add(1);
        }
    }

    /// Makes the calling thread the owner of the count. Returns true on success. This fails if the
    /// word has changed since the raise loaded it: if the vector was detached in between, the old
    /// owner may still count.
    #[cold]
    fn own(&self, seen: u64, number: u64) -> bool {
        let fits = number != 0 && number <= OWNERS;
        fits && self.word.compare_exchange(seen, seen | number << OWNER_AT).is_ok()
    }

    /// Returns how many interrupts were signalled or became pending.
    pub(crate) fn counted(&self) -> u64 {
        self.own.load().wrapping_add(self.others.load())
    }

    /// Makes the interrupt pending. If the vector was unmasked in between, signals it at once: the
    /// unmasking thread did not see the pending bit (lost wake-up).
    fn hold(&self, process: &impl Process<W>) -> Raised {
        let seen = self.word.fetch_or(HELD);
        if seen & MASKED != 0 {
            return Raised::Held;
        }
        self.release(process);
        Raised::Signalled
    }

    /// Signals a pending interrupt, if there is one. The hazard pointer of the caller protects the
    /// cell, or the caller is the thread that changes eventfds.
    fn release(&self, process: &impl Process<W>) {
        let seen = self.word.fetch_and(!HELD);
        if let Some(target) = Target::of(seen).filter(|_| seen & HELD != 0) {
            process.signal(target);
        }
    }

    /// Returns true if an interrupt is pending.
    pub(crate) fn is_held(&self) -> bool {
        self.word.load() & HELD != 0
    }

    /// Returns the attached eventfd.
    pub(crate) fn target(&self) -> Option<Target> {
        Target::of(self.word.load())
    }

    /// Returns true if an eventfd is attached.
    pub(crate) fn is_attached(&self) -> bool {
        self.target().is_some()
    }

    /// Returns true if a source masks the vector.
    pub(crate) fn is_masked(&self) -> bool {
        self.word.load() & MASKED != 0
    }

    /// Masks the vector. A raise in progress may still signal until the vector has settled.
    pub(crate) fn mask(&self, mask: MaskSource) {
        self.word.fetch_or(mask.bit());
    }

    /// Removes one mask. If no other source masks the vector, signals a pending interrupt.
    pub(crate) fn unmask(&self, mask: MaskSource, process: &impl Process<W>) {
        let seen = self.word.fetch_and(!mask.bit());
        if seen & MASKED & !mask.bit() == 0 {
            self.release(process);
        }
    }

    /// Attaches an eventfd, or replaces the old one. Sets or clears the mask of SET_IRQS if
    /// `mask_request` is given. If the vector is then unmasked, signals a pending interrupt.
    /// Returns true if it replaced an eventfd; raises may use that one until the vector has
    /// settled.
    ///
    /// A detached vector must settle before it is attached again: the count may get a new owner.
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

    /// Detaches the eventfd. Raises may use the eventfd until the vector has settled. Masks and the
    /// pending bit stay.
    pub(crate) fn detach(&self) {
        self.update(|word| word & !(SLOW | OWNER) | EVENTFD);
    }

    /// Clears the pending bit.
    pub(crate) fn forget(&self) {
        self.word.fetch_and(!HELD);
    }

    /// Clears the pending bit and the mask of SET_IRQS.
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

    /// Waits until no raise uses the word as it was before the heavy fence of the caller. Then the
    /// vector has settled.
    pub(crate) fn settle(&self, process: &impl Process<W>, mut pause: impl FnMut(u32)) {
        process.each_hazard(|hazard| hazard.wait(self.name(), &mut pause));
    }
}

#[cfg(test)]
mod tests;
