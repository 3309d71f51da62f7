//! What the threads of this process are raising at the moment.
//!
//! Each thread that raises has a *pin*: it says there which cell it is about to use, reads the cell,
//! uses what it found, and says that it is done. Nobody else writes to the pin, so that a raise needs no
//! locked instruction, which costs a tenth of the eventfd write that it would be for. Whoever has
//! taken an eventfd out of a cell waits for the pins of those who may have read the cell before.
//!
//! For that to be sound, either the raise must see the new cell or the other its pin. A fence on both
//! sides says so ([`super::fences`]), which costs the raise nothing.
//!
//! A cell is known by its address. Who raises keeps the cell's table alive, so that no pin that is in
//! use names a cell that is gone, or another one in its place.
//!
//! A child that is forked has the pins of threads that it has not. It must not go on serving devices.

use super::cell::Word;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// What one thread is raising. A line of the cache each, as every thread writes its own all the time.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Pin<W> {
    /// Its number while it is somebody's; 0 while it is nobody's.
    holder: W,
    /// Odd while a raise is under way.
    turn: W,
    using: W,
}

impl<W: Word> Pin<W> {
    /// Whether it is the caller's now, who is alone to use it until [`Pin::free`]. All that was done
    /// with the pin before has happened then: a count that its number owns can be added to. A full fence
    /// must follow before the pin is used.
    pub(crate) fn claim(&self, number: u64) -> bool {
        self.holder.peek() == 0 && self.holder.compare_exchange(0, number).is_ok()
    }

    /// Whether it was somebody's before the caller's full fence. Whoever claims it later sees what the
    /// caller changed before the fence; whoever had it earlier is done.
    pub(crate) fn is_held(&self) -> bool {
        self.holder.load() != 0
    }

    pub(crate) fn free(&self) {
        self.holder.put(0);
    }

    /// Its holder's to ask.
    #[inline]
    fn number(&self) -> u64 {
        self.holder.peek()
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

    /// Which use it is, if the cell is in use.
    fn turn_on(&self, cell: u64) -> Option<u64> {
        let turn = self.turn.load();
        (turn & 1 != 0 && self.using.load() == cell).then_some(turn)
    }

    /// Waits for a use of the cell that began before the caller's heavy fence. Uses that began later are
    /// not waited for, however many follow each other.
    pub(crate) fn wait(&self, cell: u64, pause: &mut impl FnMut(u32)) {
        let Some(turn) = self.turn_on(cell) else { return };
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
        Self { holder: AtomicU64::new(0), turn: AtomicU64::new(0), using: AtomicU64::new(0) }
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

/// The greatest number that any pin was ever claimed by.
static USED: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
thread_local! {
    /// How often the thread had others fenced.
    pub(crate) static FENCED: Cell<u32> = const { Cell::new(0) };
}

/// Fences between what the caller changed and its look at who uses that. The heavy fence is for threads
/// that have pins.
pub(crate) fn heavy_fence() {
    #[cfg(test)]
    FENCED.set(FENCED.get() + 1);
    fence(Ordering::SeqCst);
    if all().any(Pin::is_held) {
        super::fences::heavy();
    }
}

/// Every pin of the process that was ever used. To be called after a full fence: who claimed one, and
/// saw what was before, had told so.
pub(crate) fn all() -> impl Iterator<Item = &'static Pin<AtomicU64>> {
    let used = usize::try_from(USED.load(Ordering::Acquire)).unwrap_or(usize::MAX);
    let blocks = std::iter::successors(Some(&PINS), |block| block.next.get().map(Box::as_ref));
    blocks.flat_map(|block| &block.pins).take(used)
}

type Mine = &'static Pin<AtomicU64>;

/// The first pin that is free.
fn claim() -> Mine {
    let (mut block, mut before) = (&PINS, 1);
    loop {
        for (pin, number) in block.pins.iter().zip(before..) {
            if pin.claim(number) {
                USED.fetch_max(number, Ordering::AcqRel);
                fence(Ordering::SeqCst);
                return pin;
            }
        }
        block = block.next.get_or_init(|| Box::new(Block::new()));
        before += BLOCK as u64;
    }
}

/// The pin of a thread, given back when the thread ends. One word, so that a signal's handler finds it
/// there or not.
struct Kept(Cell<Option<Mine>>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(mine) = self.0.take() {
            mine.free();
        }
    }
}

thread_local! {
    static KEPT: Kept = const { Kept(Cell::new(None)) };
}

/// Lends the caller its thread's pin.
#[inline]
pub(crate) fn with_pin<T>(act: impl FnOnce(Numbered<'static, AtomicU64>) -> T) -> T {
    match KEPT.try_with(|kept| kept.0.get()) {
        Ok(Some(pin)) if !pin.is_busy() => act(Numbered { pin, number: pin.number() }),
        Ok(None) => {
            let pin = keep();
            act(Numbered { pin, number: pin.number() })
        }
        _ => act_once(act),
    }
}

/// A thread's first raise.
#[cold]
fn keep() -> Mine {
    let mine = claim();
    // The handler of a signal may have been first.
    if let Ok(Some(other)) = KEPT.try_with(|kept| kept.0.replace(Some(mine))) {
        other.free();
    }
    mine
}

/// A raise by a thread that is ending, or within another one of the same thread.
#[cold]
fn act_once<T>(act: impl FnOnce(Numbered<'static, AtomicU64>) -> T) -> T {
    let pin = claim();
    let outcome = act(Numbered { pin, number: 0 });
    pin.free();
    outcome
}

#[cfg(test)]
mod tests {
    use super::{USED, all, with_pin};
    use std::sync::atomic::Ordering;

    /// No other test of this process raises by these pins.
    #[test]
    fn a_pin_is_of_one_thread_at_a_time_and_goes_to_the_next() {
        let mine = with_pin(|mine| (std::ptr::from_ref(mine.pin), mine.number));
        assert_eq!(with_pin(|again| (std::ptr::from_ref(again.pin), again.number)), mine);
        let other = || std::thread::spawn(|| with_pin(|theirs| theirs.number)).join().unwrap();
        let first = other();
        assert_ne!(first, mine.1, "two threads that live have a pin each");
        assert!(
            (0..200).all(|_| other() == first),
            "a thread that ends leaves its pin to the next"
        );

        // As a signal's handler that raises while its thread does.
        with_pin(|mine| {
            mine.pin.begin(64);
            with_pin(|within| {
                assert!(!std::ptr::eq(within.pin, mine.pin));
                assert_eq!(within.number, 0, "it must not add to a count that is being added to");
            });
            mine.pin.end();
        });

        // More threads at a time than a block has pins, seen by whoever waits.
        let (go, all_there) = (std::sync::Barrier::new(100), std::sync::Barrier::new(100));
        std::thread::scope(|scope| {
            for _ in 1..100 {
                scope.spawn(|| {
                    with_pin(|theirs| theirs.pin.begin(128));
                    all_there.wait();
                    go.wait();
                    with_pin_of_ours(|pin| pin.end());
                });
            }
            all_there.wait();
            let using = all().filter(|pin| pin.turn_on(128).is_some()).count();
            go.wait();
            assert_eq!(using, 99);
        });
        assert!(USED.load(Ordering::Relaxed) >= 100);
    }

    /// The calling thread's pin although it is busy.
    fn with_pin_of_ours(act: impl FnOnce(&super::Pin<super::AtomicU64>)) {
        super::KEPT.with(|kept| act(kept.0.get().expect("it has raised")));
    }
}
