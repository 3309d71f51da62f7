//! What the threads of this process are raising at the moment.
//!
//! Each thread that raises has a *pin*: it says there which cell it is about to use, reads the cell,
//! uses what it found, and says that it is done. Nobody else writes to the pin, so that a raise needs no
//! locked instruction, which costs a tenth of the eventfd write that it would be for. Whoever has
//! taken an eventfd out of a cell waits for the pins of those who may have read the cell before.
//!
//! For that to be sound, either the raise must see the new cell or the other its pin. A fence on both
//! sides says so; that of the raise, which is the frequent one, is left to the other side, which has the
//! kernel do it for all threads at once (`membarrier(2)`).

use super::cell::Word;
use rustix::thread::{MembarrierCommand, membarrier};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence, fence};
use std::time::Duration;

/// What one thread is raising. A line of the cache each, as every thread writes its own all the time.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Pin<W> {
    taken: W,
    /// Odd while a raise is under way.
    turn: W,
    using: W,
}

impl<W: Word> Pin<W> {
    /// Whether it is the caller's now, who is alone to use it until [`Pin::free`].
    pub(crate) fn claim(&self) -> bool {
        self.taken.peek() == 0 && self.taken.compare_exchange(0, 1).is_ok()
    }

    pub(crate) fn free(&self) {
        self.taken.put(0);
    }

    /// Whether its thread was interrupted by a signal while it was raising.
    #[inline]
    fn is_busy(&self) -> bool {
        self.turn.peek() & 1 != 0
    }

    /// What is read of the cell from now on is not taken away before [`Pin::end`].
    #[inline]
    pub(crate) fn begin(&self, cell: u64) {
        // First, so that a signal's handler that raises finds it busy, or leaves nothing behind.
        self.turn.put(self.turn.peek().wrapping_add(1));
        self.using.put(cell);
        W::light_fence();
    }

    #[inline]
    pub(crate) fn end(&self) {
        self.turn.put(self.turn.peek().wrapping_add(1));
    }

    /// Waits for a use of the cell that began before the caller's heavy fence. Uses that began later are
    /// not waited for, however many follow each other.
    pub(crate) fn wait(&self, cell: u64, pause: &mut impl FnMut(u32)) {
        let turn = self.turn.load();
        if turn & 1 == 0 || self.using.load() != cell {
            return;
        }
        let mut turns = 0_u32;
        while self.turn.load() == turn {
            pause(turns);
            turns = turns.saturating_add(1);
        }
    }
}

/// A pin with the number by which counters know it; 0 for one that is taken for a single raise.
pub(crate) struct Numbered<'p, W> {
    pub(crate) pin: &'p Pin<W>,
    pub(crate) number: u64,
}

// Not derived: that would ask it of `W`.
impl<W> Clone for Numbered<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Numbered<'_, W> {}

impl Pin<AtomicU64> {
    const fn unused() -> Self {
        Self { taken: AtomicU64::new(0), turn: AtomicU64::new(0), using: AtomicU64::new(0) }
    }
}

const BLOCK: usize = 64;

/// Pins of as many threads as ever raised at a time.
struct Block {
    pins: [Pin<AtomicU64>; BLOCK],
    next: OnceLock<Box<Self>>,
}

impl Block {
    const fn new() -> Self {
        Self { pins: [const { Pin::unused() }; BLOCK], next: OnceLock::new() }
    }
}

static PINS: Block = Block::new();

/// Every pin of the process.
pub(crate) fn all() -> impl Iterator<Item = &'static Pin<AtomicU64>> {
    let blocks = std::iter::successors(Some(&PINS), |block| block.next.get().map(Box::as_ref));
    blocks.flat_map(|block| &block.pins)
}

type Mine = Numbered<'static, AtomicU64>;

/// The first pin that is free.
fn claim() -> Mine {
    let (mut block, mut before) = (&PINS, 1);
    loop {
        for (pin, number) in block.pins.iter().zip(before..) {
            if pin.claim() {
                return Numbered { pin, number };
            }
        }
        block = block.next.get_or_init(|| Box::new(Block::new()));
        before += BLOCK as u64;
    }
}

/// The pin of a thread, given back when the thread ends.
struct Kept(Cell<Option<Mine>>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(mine) = self.0.take() {
            mine.pin.free();
        }
    }
}

thread_local! {
    static KEPT: Kept = const { Kept(Cell::new(None)) };
}

/// Lends the caller its thread's pin.
#[inline]
pub(crate) fn with_pin<T>(act: impl FnOnce(Mine) -> T) -> T {
    match KEPT.try_with(|kept| kept.0.get()) {
        Ok(Some(mine)) if !mine.pin.is_busy() => act(mine),
        Ok(None) => act(keep()),
        _ => act_once(act),
    }
}

/// A thread's first raise.
#[cold]
fn keep() -> Mine {
    let mine = claim();
    // The handler of a signal may have been first.
    if let Ok(Some(other)) = KEPT.try_with(|kept| kept.0.replace(Some(mine))) {
        other.pin.free();
    }
    mine
}

/// A raise by a thread that is ending, or within another one of the same thread.
#[cold]
fn act_once<T>(act: impl FnOnce(Mine) -> T) -> T {
    let Numbered { pin, .. } = claim();
    let outcome = act(Numbered { pin, number: 0 });
    pin.free();
    outcome
}

/// Whether the kernel fences for all threads.
static KERNEL_FENCES: AtomicBool = AtomicBool::new(false);

/// To be called before there is anything to raise.
pub(crate) fn prepare() {
    static PREPARED: OnceLock<()> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let registered = membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok();
        KERNEL_FENCES.store(registered, Ordering::Release);
    });
}

#[inline]
pub(crate) fn light_fence() {
    if KERNEL_FENCES.load(Ordering::Relaxed) {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

pub(crate) fn heavy_fence() {
    if KERNEL_FENCES.load(Ordering::Relaxed)
        && membarrier(MembarrierCommand::PrivateExpedited).is_err()
    {
        // A filter of system calls that came later forbids it. Raises do it themselves from now on;
        // of those that have begun, no store stays in a processor's buffer for so long.
        KERNEL_FENCES.store(false, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
    }
    fence(Ordering::SeqCst);
}
