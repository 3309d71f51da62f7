//! What the connection's thread tells the worker, and the other way round, without waiting.

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
            status: AtomicU32::new(READY),
        }
    }

    /// A doorbell is written. One that does not exist is nobody's.
    pub(super) fn ring(&self, place: usize, value: u32) {
        let (Some(doorbell), Some(rung)) = (self.doorbells.get(place), self.rung.get(place / 64))
        else {
            return;
        };
        doorbell.store(value, Ordering::Relaxed);
        rung.fetch_or(1 << (place % 64), Ordering::Release);
        self.news.store(true, Ordering::Release);
    }

    /// Calls `hear` for each doorbell that was rung since, with its value.
    pub(super) fn listen(&self, mut hear: impl FnMut(usize, u32)) -> bool {
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
                if let Some(doorbell) = self.doorbells.get(place) {
                    hear(place, doorbell.load(Ordering::Relaxed));
                }
            }
        }
        true
    }

    /// Whether nothing is new.
    pub(super) fn is_quiet(&self) -> bool {
        !self.news.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.news.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn shut_down(&self) {
        self.shut_down.store(true, Ordering::Release);
        self.news.store(true, Ordering::Release);
    }

    /// Whether the guest has asked to shut down, once.
    pub(super) fn take_shut_down(&self) -> bool {
        self.shut_down.swap(false, Ordering::AcqRel)
    }

    pub(super) fn allow(&self, on: bool) {
        self.allowed.store(on, Ordering::Release);
        self.news.store(true, Ordering::Release);
    }

    /// Whether the device may reach for memory.
    pub(super) fn is_allowed(&self) -> bool {
        self.allowed.load(Ordering::Acquire)
    }

    pub(super) fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    pub(super) fn set_status(&self, bits: u32) {
        self.status.fetch_or(bits, Ordering::AcqRel);
    }

    /// The worker has ended: neither ready nor anything else.
    pub(super) fn over(&self) {
        self.status.store(0, Ordering::Release);
    }
}
