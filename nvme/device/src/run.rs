//! The lock-free state between the thread of the connection and the worker.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use vfio_irq_nvme_spec::register::{FATAL, READY};

/// One enabling of a controller, until it is disabled.
pub(crate) struct Run {
    /// The tail of submission queue n at 2n, the head of completion queue n at 2n + 1.
    doorbells: Box<[AtomicU32]>,
    /// One bit per doorbell: the guest has written it.
    rung: Box<[AtomicU64]>,
    /// There is work: a bit of `rung`, or a flag.
    news: AtomicBool,
    stop: AtomicBool,
    shut_down: AtomicBool,
    allowed: AtomicBool,
    /// The controller has failed (CSTS.CFS).
    broken: AtomicBool,
    status: AtomicU32,
}

impl Run {
    pub(crate) fn new(queues: u16, allowed: bool) -> Self {
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

    /// Stores a doorbell write. Ignores a doorbell that does not exist.
    pub(crate) fn ring(&self, place: usize, value: u32) {
        let (Some(doorbell), Some(rung)) = (self.doorbells.get(place), self.rung.get(place / 64))
        else {
            return;
        };
        doorbell.store(value, Ordering::Release);
        rung.fetch_or(1 << (place % 64), Ordering::Release);
        self.tell();
    }

    /// Publishes that there is work. The caller wakes the worker next.
    fn tell(&self) {
        self.news.store(true, Ordering::SeqCst);
    }

    /// Returns the last value of a doorbell. Later loads see what the guest wrote to its memory
    /// before the doorbell (acquire).
    pub(crate) fn doorbell(&self, place: usize) -> u32 {
        self.doorbells.get(place).map_or(0, |doorbell| doorbell.load(Ordering::Acquire))
    }

    /// Clears the doorbell of a new queue: earlier writes were for an old queue.
    pub(crate) fn clear(&self, place: usize) {
        if let Some(doorbell) = self.doorbells.get(place) {
            doorbell.store(0, Ordering::Relaxed);
        }
    }

    /// Calls `hear` for each written doorbell. Returns true if there was one.
    pub(crate) fn listen(&self, mut hear: impl FnMut(usize)) -> bool {
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

    /// Returns true if nothing was published.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.news.load(Ordering::SeqCst)
    }

    /// Returns true if commands may be carried out.
    pub(crate) fn is_active(&self) -> bool {
        self.allowed.load(Ordering::SeqCst) && !self.broken.load(Ordering::SeqCst)
    }

    /// Sets CSTS.CFS; the guest must disable the controller.
    pub(crate) fn fail(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.set_status(FATAL);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.tell();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(crate) fn shut_down(&self) {
        self.shut_down.store(true, Ordering::SeqCst);
        self.tell();
    }

    /// Returns true once after the guest has requested a shutdown.
    pub(crate) fn take_shut_down(&self) -> bool {
        self.shut_down.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn allow(&self, on: bool) {
        self.allowed.store(on, Ordering::SeqCst);
        self.tell();
    }

    pub(crate) fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    pub(crate) fn set_status(&self, bits: u32) {
        self.status.fetch_or(bits, Ordering::AcqRel);
    }

    /// Clears CSTS after the worker has ended.
    pub(crate) fn over(&self) {
        self.status.store(0, Ordering::Release);
    }
}
