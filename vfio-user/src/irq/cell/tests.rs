//! Every interleaving of raises with masks, unmasks and new eventfds.

use super::{Cell, Hazard, MaskSource, Numbered, Process, Raised, Target, Word};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use loom::thread;

word!(AtomicU64, fence(Ordering::SeqCst), fence(Ordering::SeqCst));

/// Three eventfds: what was signalled on each, and whether it is closed; and the hazards of three threads.
struct Board {
    cell: Cell<AtomicU64>,
    eventfds: [AtomicUsize; 3],
    hazards: [Hazard<AtomicU64>; 3],
}

const CLOSED: usize = 1 << 16;

impl Process<AtomicU64> for Board {
    fn signal(&self, target: Target) {
        let before = self.eventfds[target.fd as usize].fetch_add(1, Ordering::Relaxed);
        assert!(before < CLOSED, "an eventfd was signalled after it was closed");
    }

    fn each_hazard(&self, visit: impl FnMut(&Hazard<AtomicU64>)) {
        self.hazards.iter().for_each(visit);
    }
}

fn to(fd: u32) -> Target {
    Target { fd, may_block: false }
}

fn pause(_: u32) {
    thread::yield_now();
}

impl Board {
    fn new() -> Self {
        Self {
            cell: Cell::new(AtomicU64::new),
            eventfds: std::array::from_fn(|_| AtomicUsize::new(0)),
            hazards: std::array::from_fn(|_| Hazard::default()),
        }
    }

    fn attached() -> Arc<Self> {
        let board = Self::new();
        board.cell.attach(to(0), Some(false), &board);
        Arc::new(board)
    }

    fn settle(&self) {
        AtomicU64::heavy_fence();
        self.cell.settle(self, pause);
    }

    fn attach(&self, fd: u32) {
        if self.cell.attach(to(fd), None, self) {
            self.settle();
        }
    }

    fn detach(&self) {
        self.cell.detach();
        self.settle();
    }

    fn mask(&self, mask: MaskSource) {
        self.cell.mask(mask);
        self.settle();
    }

    /// A raise by a thread that takes a hazard and gives it back.
    fn raise(&self) -> Raised {
        let mut hazards = self.hazards.iter().zip(1..);
        let (hazard, number) = hazards
            .find(|(hazard, number)| hazard.claim(*number))
            .expect("a hazard for each thread");
        let raised = self.cell.raise(Numbered { hazard, number }, self);
        hazard.free();
        raised
    }

    /// A raise by the thread that holds the hazard of this number.
    fn raise_by(&self, number: u64) -> Raised {
        let mut hazards = self.hazards.iter().zip(1..);
        let (hazard, number) = hazards.find(|(_, of)| *of == number).expect("one of three hazards");
        self.cell.raise(Numbered { hazard, number }, self)
    }

    fn close(&self, fd: usize) -> usize {
        self.eventfds[fd].fetch_add(CLOSED, Ordering::Relaxed)
    }

    /// Interrupts that the cell has counted, whether signalled or held.
    fn counted(&self) -> u64 {
        self.cell.counted()
    }

    fn signalled(&self, fd: usize) -> usize {
        self.eventfds[fd].load(Ordering::Relaxed) % CLOSED
    }
}

/// With one thread that raises.
fn explore(play: impl Fn() + Send + Sync + 'static) {
    explore_with(3, play);
}

/// With two: a thread may be interrupted twice, which keeps it within a second.
fn explore_two(play: impl Fn() + Send + Sync + 'static) {
    explore_with(2, play);
}

fn explore_with(preemptions: usize, play: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(play);
}

fn raiser(board: &Arc<Board>) -> thread::JoinHandle<Raised> {
    let board = Arc::clone(board);
    thread::spawn(move || board.raise())
}

#[test]
fn b02_a_raise_meets_the_old_eventfd_or_the_new_one() {
    explore(|| {
        let board = Board::attached();
        let raising = raiser(&board);
        board.attach(1);
        let old = board.close(0);
        assert_eq!(raising.join().unwrap(), Raised::Signalled);
        assert_eq!(old + board.signalled(1), 1);
    });
}

#[test]
fn b02_a_raise_meets_one_of_two_replacements() {
    explore(|| {
        let board = Board::attached();
        let raising = raiser(&board);
        board.attach(1);
        let first = board.close(0);
        board.attach(2);
        let second = board.close(1);
        assert_eq!(raising.join().unwrap(), Raised::Signalled);
        assert_eq!(first + second + board.signalled(2), 1);
    });
}

/// Models a request for several vectors.
#[test]
fn b02_two_vectors_are_replaced_with_one_fence() {
    explore(|| {
        let board = Board::attached();
        let other = Arc::new(Cell::new(AtomicU64::new));
        other.attach(to(1), Some(false), &*board);
        let raising = {
            let (board, other) = (Arc::clone(&board), Arc::clone(&other));
            thread::spawn(move || {
                let (hazard, number) = (&board.hazards[0], 1);
                assert!(hazard.claim(number));
                let by = Numbered { hazard, number };
                assert_eq!(other.raise(by, &*board), Raised::Signalled);
                assert_eq!(board.cell.raise(by, &*board), Raised::Signalled);
                hazard.free();
            })
        };
        assert!(board.cell.attach(to(2), None, &*board));
        assert!(other.attach(to(2), None, &*board));
        AtomicU64::heavy_fence();
        board.cell.settle(&*board, pause);
        other.settle(&*board, pause);
        let old = board.close(0) + board.close(1);
        raising.join().unwrap();
        assert_eq!(old + board.signalled(2), 2);
    });
}

#[test]
fn b02_two_raises_and_a_replacement() {
    explore_two(|| {
        let board = Board::attached();
        let raising = [raiser(&board), raiser(&board)];
        board.attach(1);
        board.close(0);
        for raise in raising {
            assert_eq!(raise.join().unwrap(), Raised::Signalled);
        }
        assert_eq!(board.signalled(0) + board.signalled(1), 2);
        assert_eq!(board.counted(), 2);
    });
}

#[test]
fn detach_ends_every_use_of_the_eventfd() {
    explore(|| {
        let board = Board::attached();
        let raising = raiser(&board);
        board.detach();
        let signalled = board.close(0);
        let raised = raising.join().unwrap();
        assert_eq!(signalled, usize::from(raised == Raised::Signalled));
        assert_ne!(raised, Raised::Held);
        assert_eq!(board.counted(), signalled as u64);
    });
}

#[test]
fn b03_what_arrives_while_masked_is_signalled_once_at_unmask() {
    explore_two(|| {
        let board = Board::attached();
        board.mask(MaskSource::Request);
        let raising = [raiser(&board), raiser(&board)];
        board.cell.unmask(MaskSource::Request, &*board);
        for raise in raising {
            assert_ne!(raise.join().unwrap(), Raised::Dropped);
        }
        let signalled = board.signalled(0);
        assert!(signalled == 1 || signalled == 2, "{signalled} signals of two interrupts");
        assert!(!board.cell.is_held());
    });
}

#[test]
fn b03_after_mask_nothing_is_signalled() {
    explore(|| {
        let board = Board::attached();
        let raising = raiser(&board);
        board.mask(MaskSource::Request);
        let before = board.signalled(0);
        let raised = raising.join().unwrap();
        assert_eq!(board.signalled(0), before);
        assert_eq!(before, usize::from(raised == Raised::Signalled));
        assert_eq!(board.cell.is_held(), raised == Raised::Held);
        board.cell.unmask(MaskSource::Request, &*board);
        assert_eq!(board.signalled(0), 1);
    });
}

#[test]
fn b03_masked_raised_and_retargeted_is_signalled_on_the_new_eventfd() {
    explore(|| {
        let board = Board::attached();
        board.mask(MaskSource::Request);
        let raising = raiser(&board);
        board.attach(1);
        assert_eq!(board.close(0), 0);
        board.cell.unmask(MaskSource::Request, &*board);
        raising.join().unwrap();
        assert_eq!(board.signalled(1), 1);
    });
}

#[test]
fn two_masks_hold_until_both_are_gone() {
    explore(|| {
        let board = Board::attached();
        board.mask(MaskSource::Request);
        board.mask(MaskSource::Register);
        let raising = raiser(&board);
        board.cell.unmask(MaskSource::Request, &*board);
        assert_eq!(raising.join().unwrap(), Raised::Held);
        assert_eq!(board.signalled(0), 0);
        board.cell.unmask(MaskSource::Register, &*board);
        assert_eq!(board.signalled(0), 1);
    });
}

#[test]
fn unmask_and_mask_again_loses_nothing() {
    explore(|| {
        let board = Board::attached();
        board.mask(MaskSource::Request);
        let raising = raiser(&board);
        board.cell.unmask(MaskSource::Request, &*board);
        board.mask(MaskSource::Request);
        raising.join().unwrap();
        let held = usize::from(board.cell.is_held());
        assert_eq!(board.signalled(0) + held, 1, "signalled, or still held, and not both");
        board.cell.unmask(MaskSource::Request, &*board);
        assert_eq!(board.signalled(0), 1);
    });
}

#[test]
fn b05_the_count_passes_from_one_owner_to_the_next() {
    explore_two(|| {
        let board = Board::attached();
        let raising = [raiser(&board), raiser(&board)];
        board.detach();
        board.attach(1);
        board.raise();
        let raised = raising.map(|raise| raise.join().unwrap());
        let told = raised.iter().filter(|raised| **raised == Raised::Signalled).count();
        assert_eq!(board.counted(), told as u64 + 1);
    });
}

#[test]
fn b05_a_pin_passes_from_one_thread_to_the_next_with_what_it_owns() {
    explore_two(|| {
        let board = Board::attached();
        // The first hazard owns the count, and is free again.
        assert_eq!(board.raise(), Raised::Signalled);
        let raising = [raiser(&board), raiser(&board)];
        for raise in raising {
            assert_eq!(raise.join().unwrap(), Raised::Signalled);
        }
        assert_eq!(board.counted(), 3);
        assert_eq!(board.raise(), Raised::Signalled);
        assert_eq!((board.counted(), board.signalled(0)), (4, 4));
    });
}

#[test]
fn b05_the_owner_counts_while_the_vector_is_detached_and_owned_anew() {
    explore(|| {
        let board = Board::attached();
        // Held for as long as the thread lives, as a thread's own hazard is.
        let [first, second, _] = &board.hazards;
        assert!(first.claim(1) && second.claim(2));
        board.raise_by(1);
        let owner = {
            let board = Arc::clone(&board);
            thread::spawn(move || board.raise_by(1))
        };
        board.detach();
        board.close(0);
        board.attach(1);
        assert_eq!(board.raise_by(2), Raised::Signalled);
        let told = u64::from(owner.join().unwrap() == Raised::Signalled);
        assert_eq!(board.counted(), 2 + told);
    });
}

#[test]
fn b05_a_new_owner_and_one_beside_it_lose_nothing_to_a_mask() {
    explore_two(|| {
        let board = Board::attached();
        let raising = [raiser(&board), raiser(&board)];
        board.mask(MaskSource::Request);
        board.cell.unmask(MaskSource::Request, &*board);
        for raise in raising {
            assert_ne!(raise.join().unwrap(), Raised::Dropped);
        }
        assert_eq!(board.counted(), 2);
    });
}

/// Beside the light fence of a raise, which is none where the kernel fences.
#[test]
fn who_claims_a_pin_is_seen_or_sees_what_was_changed() {
    explore(|| {
        let word = Arc::new(AtomicU64::new(0));
        let hazard = Arc::new(Hazard::<AtomicU64>::default());
        let closed = Arc::new(AtomicUsize::new(0));
        let raising = {
            let (word, hazard, closed) =
                (Arc::clone(&word), Arc::clone(&hazard), Arc::clone(&closed));
            thread::spawn(move || {
                assert!(hazard.claim(1));
                fence(Ordering::SeqCst);
                let seen = word.load(Ordering::Acquire);
                let state = closed.load(Ordering::Relaxed);
                assert!(seen == 1 || state == 0, "it found what was closed already");
                hazard.free();
            })
        };
        word.store(1, Ordering::Release);
        fence(Ordering::SeqCst);
        if !hazard.is_held() {
            closed.store(1, Ordering::Relaxed);
        }
        raising.join().unwrap();
    });
}
