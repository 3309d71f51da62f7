//! What the connection's thread tells the workers, and the other way round, without waiting.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Bits of CSTS.
pub(super) const READY: u32 = 1;
pub(super) const FATAL: u32 = 1 << 1;
pub(super) const SHUT_DOWN: u32 = 2 << 2;

/// The time from one enabling of a controller to its disabling.
pub(super) struct Run {
    /// The tail of submission queue n at 2n, the head of completion queue n at 2n + 1.
    doorbells: Box<[AtomicU32]>,
    /// A bit a doorbell: it was rung.
    rung: Box<[AtomicU64]>,
    /// Something is to be done: a bit of `rung`, or a flag.
    news: AtomicBool,
    stop: AtomicBool,
    shut_down: AtomicBool,
    allowed: AtomicBool,
    /// The controller cannot go on.
    broken: AtomicBool,
    status: AtomicU32,
}

impl Run {
    pub(super) fn new(queues: u16, allowed: bool) -> Self {
        let doorbells = 2 * (usize::from(queues) + 1);
        Self {
            doorbells: (0..doorbells).map(|_| AtomicU32::new(0)).collect(),
            rung: (0..doorbells.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            news: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            shut_down: AtomicBool::new(false),
            allowed: AtomicBool::new(allowed),
            broken: AtomicBool::new(false),
            status: AtomicU32::new(READY),
        }
    }

    /// A doorbell is written. One that does not exist is nobody's.
    pub(super) fn ring(&self, place: usize, value: u32) {
        let (Some(doorbell), Some(rung)) = (self.doorbells.get(place), self.rung.get(place / 64))
        else {
            return;
        };
        doorbell.store(value, Ordering::Release);
        rung.fetch_or(1 << (place % 64), Ordering::Release);
        self.tell();
    }

    /// Something is new, and there to be seen. Whoever says so looks next whether anybody is awake.
    fn tell(&self) {
        self.news.store(true, Ordering::SeqCst);
    }

    /// What was written to a doorbell last. What the guest wrote to its memory before that is seen by
    /// whatever is read afterwards.
    pub(super) fn doorbell(&self, place: usize) -> u32 {
        self.doorbells.get(place).map_or(0, |doorbell| doorbell.load(Ordering::Acquire))
    }

    /// A doorbell's queue is created: whatever was written before was another's. Somebody who has seen
    /// that it was rung may not have looked yet.
    pub(super) fn clear(&self, place: usize) {
        if let Some(doorbell) = self.doorbells.get(place) {
            doorbell.store(0, Ordering::Relaxed);
        }
    }

    /// Calls `hear` for each doorbell that was rung since; whether anything was new.
    pub(super) fn listen(&self, mut hear: impl FnMut(usize)) -> bool {
        if !self.news.swap(false, Ordering::AcqRel) {
            return false;
        }
        for (word, rung) in self.rung.iter().enumerate() {
            if rung.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = rung.swap(0, Ordering::Acquire);
            while bits != 0 {
                let place = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                hear(place);
            }
        }
        true
    }

    /// Whether nothing is new.
    pub(super) fn is_quiet(&self) -> bool {
        !self.news.load(Ordering::SeqCst)
    }

    /// Whether commands may be carried out.
    pub(super) fn is_active(&self) -> bool {
        self.allowed.load(Ordering::SeqCst) && !self.broken.load(Ordering::SeqCst)
    }

    /// Whether a thread has something to do. `turns`: a queue waits for its turn.
    pub(super) fn has_work(&self, turns: bool) -> bool {
        let commands = self.is_active() && (turns || !self.is_quiet());
        commands || self.is_stopping() || self.shut_down.load(Ordering::SeqCst)
    }

    /// The controller cannot go on: the guest must disable it.
    pub(super) fn fail(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.set_status(FATAL);
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.tell();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn shut_down(&self) {
        self.shut_down.store(true, Ordering::SeqCst);
        self.tell();
    }

    /// Whether the guest has asked to shut down, once.
    pub(super) fn take_shut_down(&self) -> bool {
        self.shut_down.swap(false, Ordering::AcqRel)
    }

    pub(super) fn allow(&self, on: bool) {
        self.allowed.store(on, Ordering::SeqCst);
        self.tell();
    }

    pub(super) fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    pub(super) fn set_status(&self, bits: u32) {
        self.status.fetch_or(bits, Ordering::AcqRel);
    }

    /// All workers have ended: neither ready nor anything else.
    pub(super) fn over(&self) {
        self.status.store(0, Ordering::Release);
    }
}
