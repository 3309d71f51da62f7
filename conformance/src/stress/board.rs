//! The state that the requesting side shares with the side that drives the device: which vectors
//! are attached and unmasked, and since when.

use crate::Error;
use crate::eventfd::Eventfd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// One vector: its state, and the two eventfds between which it is re-targeted.
struct Place {
    eventfds: [Eventfd; 2],
    /// Counts how often the vector was detached, alone or with the index, and attached again.
    generation: AtomicU64,
    attached: AtomicBool,
    /// Microseconds since the board was created, plus one; 0 while masked or not attached.
    open_since: AtomicU64,
}

/// All vectors.
pub struct Board {
    places: Vec<Place>,
    beginning: Instant,
    stopping: AtomicBool,
    passes: AtomicU64,
}

impl Board {
    /// Creates a board of `vectors` vectors, none attached.
    pub fn new(vectors: u32) -> Result<Self, Error> {
        let place = |_| {
            Ok(Place {
                eventfds: [Eventfd::new()?, Eventfd::new()?],
                generation: AtomicU64::new(0),
                attached: AtomicBool::new(false),
                open_since: AtomicU64::new(0),
            })
        };
        let places = (0..vectors).map(place).collect::<Result<_, Error>>()?;
        Ok(Self {
            places,
            beginning: Instant::now(),
            stopping: AtomicBool::new(false),
            passes: AtomicU64::new(0),
        })
    }

    /// Returns the numbers of all vectors.
    pub fn vectors(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.places.len()).unwrap_or(0)
    }

    fn place(&self, vector: u32) -> Option<&Place> {
        self.places.get(usize::try_from(vector).ok()?)
    }

    /// Returns the descriptor of one of a vector's two eventfds.
    pub fn fd(&self, vector: u32, which: bool) -> i32 {
        self.place(vector).map_or(-1, |place| {
            let [first, second] = &place.eventfds;
            if which { second.number() } else { first.number() }
        })
    }

    /// Returns the signals on both eventfds of a vector since the last call.
    pub fn take(&self, vector: u32) -> u64 {
        self.place(vector).map_or(0, |place| place.eventfds.iter().map(Eventfd::take).sum())
    }

    /// Returns a number that changes each time a vector is detached or attached again.
    pub fn generation(&self, vector: u32) -> u64 {
        self.place(vector).map_or(0, |place| place.generation.load(SeqCst))
    }

    /// Returns true if a vector is attached.
    pub fn attached(&self, vector: u32) -> bool {
        self.place(vector).is_some_and(|place| place.attached.load(SeqCst))
    }

    /// Returns since when a vector is attached and unmasked; `None` while it is not.
    pub fn open_since(&self, vector: u32) -> Option<Instant> {
        let since = self.place(vector)?.open_since.load(SeqCst).checked_sub(1)?;
        Some(self.beginning + Duration::from_micros(since))
    }

    /// Records that a vector is about to be detached.
    pub fn release(&self, vector: u32) {
        if let Some(place) = self.place(vector) {
            place.open_since.store(0, SeqCst);
            place.attached.store(false, SeqCst);
            place.generation.fetch_add(1, SeqCst);
        }
    }

    /// Records that a vector is about to be masked.
    pub fn close(&self, vector: u32) {
        if let Some(place) = self.place(vector) {
            place.open_since.store(0, SeqCst);
        }
    }

    /// Records the state of a vector after an attach or an unmask.
    pub fn settle(&self, vector: u32, attached: bool, masked: bool) {
        let Some(place) = self.place(vector) else {
            return;
        };
        let open = attached && !masked;
        let now = u64::try_from(self.beginning.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1;
        if !open {
            place.open_since.store(0, SeqCst);
        } else if place.open_since.load(SeqCst) == 0 {
            place.open_since.store(now, SeqCst);
        }
        // A command that was sent while the vector was not attached is owed no signal.
        if !place.attached.swap(attached, SeqCst) && attached {
            place.generation.fetch_add(1, SeqCst);
        }
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
