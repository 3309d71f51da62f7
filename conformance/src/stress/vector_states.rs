//! The state that the requesting side shares with the side that drives the device: which vectors
//! are attached and unmasked, and since when.

use crate::Error;
use crate::eventfd::Eventfd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// One vector: its state, and the two eventfds between which it is re-targeted.
pub struct Vector {
    eventfds: [Eventfd; 2],
    /// Counts how often the vector was detached, alone or with the index, and attached again.
    generation: AtomicU64,
    attached: AtomicBool,
    masked: AtomicBool,
    beginning: Instant,
    /// Microseconds since `beginning`, plus one; 0 while masked or not attached.
    deliverable_since: AtomicU64,
}

/// All vectors, and how far the side that drives the device has come.
pub struct VectorStates {
    /// The vectors, by their numbers.
    pub vectors: Vec<Vector>,
    stopping: AtomicBool,
    passes: AtomicU64,
}

impl VectorStates {
    /// Creates the states of `count` vectors, none attached.
    pub fn new(count: u32) -> Result<Self, Error> {
        let vectors = (0..count).map(|_| Vector::new()).collect::<Result<_, _>>()?;
        Ok(Self { vectors, stopping: AtomicBool::new(false), passes: AtomicU64::new(0) })
    }

    /// Returns how often the other side has served every queue.
    pub fn passes(&self) -> u64 {
        self.passes.load(SeqCst)
    }

    /// Records that every queue was served once more.
    pub fn pass(&self) {
        self.passes.fetch_add(1, SeqCst);
    }

    /// Tells the other side to stop.
    pub fn stop(&self) {
        self.stopping.store(true, SeqCst);
    }

    /// Returns true if the other side has to stop.
    pub fn stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }
}

impl Vector {
    fn new() -> Result<Self, Error> {
        Ok(Self {
            eventfds: [Eventfd::new()?, Eventfd::new()?],
            generation: AtomicU64::new(0),
            attached: AtomicBool::new(false),
            masked: AtomicBool::new(false),
            beginning: Instant::now(),
            deliverable_since: AtomicU64::new(0),
        })
    }

    /// Returns the descriptor of one of the two eventfds.
    pub fn fd(&self, second: bool) -> i32 {
        self.eventfds[usize::from(second)].number()
    }

    /// Returns the signals on both eventfds since the last call.
    pub fn take(&self) -> u64 {
        self.eventfds.iter().map(Eventfd::take).sum()
    }

    /// Returns a number that changes each time the vector is detached or attached again.
    pub fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
    }

    /// Returns true if the vector is attached.
    pub fn is_attached(&self) -> bool {
        self.attached.load(SeqCst)
    }

    /// Returns since when the vector is attached and unmasked; `None` while it is not.
    pub fn deliverable_since(&self) -> Option<Instant> {
        let since = self.deliverable_since.load(SeqCst).checked_sub(1)?;
        Some(self.beginning + Duration::from_micros(since))
    }

    /// Records, before the request, that the vector is detached.
    pub fn detach(&self) {
        self.deliverable_since.store(0, SeqCst);
        self.attached.store(false, SeqCst);
        self.generation.fetch_add(1, SeqCst);
    }

    /// Records, before the request, that the vector is masked.
    pub fn mask(&self) {
        self.masked.store(true, SeqCst);
        self.deliverable_since.store(0, SeqCst);
    }

    /// Records, after the request, that the vector is attached. Returns true if it already was.
    pub fn attach(&self) -> bool {
        let was_attached = self.attached.swap(true, SeqCst);
        if !was_attached {
            // A command that was sent while the vector was not attached is owed no signal.
            self.generation.fetch_add(1, SeqCst);
        }
        self.deliver();
        was_attached
    }

    /// Records, after the request, that the vector is not masked.
    pub fn unmask(&self) {
        self.masked.store(false, SeqCst);
        self.deliver();
    }

    fn deliver(&self) {
        let deliverable = self.attached.load(SeqCst) && !self.masked.load(SeqCst);
        if deliverable && self.deliverable_since.load(SeqCst) == 0 {
            let now = u64::try_from(self.beginning.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
            self.deliverable_since.store(now + 1, SeqCst);
        }
    }
}
