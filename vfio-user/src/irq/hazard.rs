//! Hazard pointers: which cell each thread of this process is raising.
//!
//! A thread that raises publishes the address of the cell in its hazard pointer. Then it loads the
//! cell, writes to the eventfd, and clears the hazard pointer. Only the owner writes its hazard
//! pointer, so a raise needs no locked instruction. A locked instruction would cost a tenth of the
//! eventfd write.
//!
//! The thread that serves the client removes an eventfd from a cell first. Then it waits for each
//! hazard pointer that names the cell, and closes the eventfd last. Otherwise a raise could write
//! to a descriptor that is closed or reused (use after free).
//!
//! # Invariants
//!
//! - Either the raise loads the new cell, or the server sees the hazard pointer. Both sides fence
//!   to guarantee this ([`super::fences`]); the fence costs the raise nothing.
//! - The address identifies the cell. The raising thread keeps the table alive, so no hazard
//!   pointer in use names a freed or reused cell.
//! - A forked child inherits hazard pointers of threads that do not exist in the child. The child
//!   must not serve devices.

use super::cell::Word;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The hazard pointer of one thread. Aligned to a cache line, because each thread writes its own
/// hazard pointer on every raise (false sharing).
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Hazard<W> {
    /// The number of the hazard pointer while a thread owns it, else 0.
    holder: W,
    /// The sequence number: odd while a raise is in progress.
    turn: W,
    using: W,
}

impl<W: Word> Hazard<W> {
    /// Claims the hazard pointer for the calling thread. Returns true if no other thread owned it.
    /// The caller owns the hazard pointer until [`Hazard::free`], and sees everything that earlier
    /// owners did. So the caller can add to a count that this number owns. A full fence must follow
    /// before the hazard pointer is used.
    pub(crate) fn claim(&self, number: u64) -> bool {
        self.holder.peek() == 0 && self.holder.compare_exchange(0, number).is_ok()
    }

    /// Returns true if a thread owned the hazard pointer before the caller's full fence. A thread
    /// that claims the hazard pointer later sees what the caller changed before the fence. A thread
    /// that freed it earlier has finished its raise.
    pub(crate) fn is_held(&self) -> bool {
        self.holder.load() != 0
    }

    pub(crate) fn free(&self) {
        self.holder.put(0);
    }

    /// Returns the number. Only the owner may call this.
    #[inline]
    fn number(&self) -> u64 {
        self.holder.peek()
    }

    /// Returns true if a signal interrupted the owner during a raise.
    #[inline]
    fn is_busy(&self) -> bool {
        self.turn.peek() & 1 != 0
    }

    /// Publishes the cell. What the owner loads from the cell after this is not taken away before
    /// [`Hazard::end`].
    #[inline]
    pub(crate) fn begin(&self, cell: u64) {
        // The sequence number changes first. If a signal handler raises here, it sees a busy hazard
        // pointer and uses another one.
        self.turn.put(self.turn.peek().wrapping_add(1));
        self.using.put(cell);
        W::light_fence();
    }

    #[inline]
    pub(crate) fn end(&self) {
        self.turn.put(self.turn.peek().wrapping_add(1));
    }

    /// Returns the sequence number if the hazard pointer protects this cell.
    fn turn_on(&self, cell: u64) -> Option<u64> {
        let turn = self.turn.load();
        (turn & 1 != 0 && self.using.load() == cell).then_some(turn)
    }

    /// Waits for a use of the cell that began before the caller's heavy fence. It does not wait for
    /// later uses: those loaded the new cell. So a thread that raises in a loop cannot starve the
    /// server.
    pub(crate) fn wait(&self, cell: u64, pause: &mut impl FnMut(u32)) {
        let Some(turn) = self.turn_on(cell) else { return };
        let mut turns = 0_u32;
        while self.turn.load() == turn {
            pause(turns);
            turns = turns.saturating_add(1);
        }
    }
}

/// A hazard pointer and the number that owns counts. The number is 0 if the hazard pointer was
/// claimed for a single raise.
pub(crate) struct Numbered<'p, W> {
    pub(crate) hazard: &'p Hazard<W>,
    pub(crate) number: u64,
}

// Not derived: `derive` would require `W: Clone`.
impl<W> Clone for Numbered<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Numbered<'_, W> {}

impl Hazard<AtomicU64> {
    const fn unused() -> Self {
        Self { holder: AtomicU64::new(0), turn: AtomicU64::new(0), using: AtomicU64::new(0) }
    }
}

const BLOCK: usize = 64;

struct Block {
    hazards: [Hazard<AtomicU64>; BLOCK],
    next: OnceLock<Box<Self>>,
}

impl Block {
    const fn new() -> Self {
        Self { hazards: [const { Hazard::unused() }; BLOCK], next: OnceLock::new() }
    }
}

static HAZARDS: Block = Block::new();

/// The greatest number under which a hazard pointer was ever claimed.
static USED: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
thread_local! {
    /// Counts the heavy fences of this thread.
    pub(crate) static FENCED: Cell<u32> = const { Cell::new(0) };
}

/// Fences between the caller's change of a cell and the load of the hazard pointers. It skips
/// `membarrier(2)` if no thread owns a hazard pointer.
pub(crate) fn heavy_fence() {
    #[cfg(test)]
    FENCED.set(FENCED.get() + 1);
    fence(Ordering::SeqCst);
    if all().any(Hazard::is_held) {
        super::fences::heavy();
    }
}

/// Returns all hazard pointers that were ever claimed. Call this after a full fence: a thread that
/// claimed one and loaded the old cell has raised [`USED`] before that fence.
pub(crate) fn all() -> impl Iterator<Item = &'static Hazard<AtomicU64>> {
    let used = usize::try_from(USED.load(Ordering::Acquire)).unwrap_or(usize::MAX);
    let blocks = std::iter::successors(Some(&HAZARDS), |block| block.next.get().map(Box::as_ref));
    blocks.flat_map(|block| &block.hazards).take(used)
}

type Mine = &'static Hazard<AtomicU64>;

/// Claims the first free hazard pointer. Allocates another block if all are in use.
fn claim() -> Mine {
    let (mut block, mut before) = (&HAZARDS, 1);
    loop {
        for (hazard, number) in block.hazards.iter().zip(before..) {
            if hazard.claim(number) {
                USED.fetch_max(number, Ordering::AcqRel);
                fence(Ordering::SeqCst);
                return hazard;
            }
        }
        block = block.next.get_or_init(|| Box::new(Block::new()));
        before += BLOCK as u64;
    }
}

/// The hazard pointer of a thread, freed when the thread ends. It is one word, so that a signal
/// handler sees it either set or unset.
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

/// Calls `act` with the hazard pointer of the calling thread. Returns the result of `act`.
#[inline]
pub(crate) fn with_hazard<T>(act: impl FnOnce(Numbered<'static, AtomicU64>) -> T) -> T {
    match KEPT.try_with(|kept| kept.0.get()) {
        Ok(Some(hazard)) if !hazard.is_busy() => act(Numbered { hazard, number: hazard.number() }),
        Ok(None) => {
            let hazard = keep();
            act(Numbered { hazard, number: hazard.number() })
        }
        _ => act_once(act),
    }
}

/// Claims a hazard pointer for the calling thread, which raises for the first time. Returns it.
#[cold]
fn keep() -> Mine {
    let mine = claim();
    // A signal handler of this thread may have claimed one in between.
    if let Ok(Some(other)) = KEPT.try_with(|kept| kept.0.replace(Some(mine))) {
        other.free();
    }
    mine
}

/// Calls `act` with a temporary hazard pointer. A thread needs this while it ends, and in a signal
/// handler that interrupts a raise.
#[cold]
fn act_once<T>(act: impl FnOnce(Numbered<'static, AtomicU64>) -> T) -> T {
    let hazard = claim();
    let outcome = act(Numbered { hazard, number: 0 });
    hazard.free();
    outcome
}

#[cfg(test)]
mod tests {
    use super::{USED, all, with_hazard};
    use std::sync::atomic::Ordering;

    /// No other test of this process uses this thread's hazard pointer.
    #[test]
    fn a_hazard_pointer_is_of_one_thread_at_a_time_and_goes_to_the_next() {
        let mine = with_hazard(|mine| (std::ptr::from_ref(mine.hazard), mine.number));
        assert_eq!(with_hazard(|again| (std::ptr::from_ref(again.hazard), again.number)), mine);
        let other = || std::thread::spawn(|| with_hazard(|theirs| theirs.number)).join().unwrap();
        let first = other();
        assert_ne!(first, mine.1, "two threads that live have a hazard each");
        assert!(
            (0..200).all(|_| other() == first),
            "a thread that ends leaves its hazard to the next"
        );

        // Models a signal handler that raises while its thread raises.
        with_hazard(|mine| {
            mine.hazard.begin(64);
            with_hazard(|within| {
                assert!(!std::ptr::eq(within.hazard, mine.hazard));
                assert_eq!(within.number, 0, "it must not add to a count that is being added to");
            });
            mine.hazard.end();
        });

        // More threads than a block has hazard pointers.
        let (go, all_there) = (std::sync::Barrier::new(100), std::sync::Barrier::new(100));
        std::thread::scope(|scope| {
            for _ in 1..100 {
                scope.spawn(|| {
                    with_hazard(|theirs| theirs.hazard.begin(128));
                    all_there.wait();
                    go.wait();
                    with_busy_hazard(|hazard| hazard.end());
                });
            }
            all_there.wait();
            let using = all().filter(|hazard| hazard.turn_on(128).is_some()).count();
            go.wait();
            assert_eq!(using, 99);
        });
        assert!(USED.load(Ordering::Relaxed) >= 100);
    }

    /// Calls `act` with the hazard pointer of the calling thread, even if the hazard pointer is
    /// busy.
    fn with_busy_hazard(act: impl FnOnce(&super::Hazard<super::AtomicU64>)) {
        super::KEPT.with(|kept| act(kept.0.get().expect("it has raised")));
    }
}
