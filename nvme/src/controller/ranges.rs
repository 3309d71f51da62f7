//! Blocks that commands work on. Commands of several threads run at one time, and a block is read and
//! written as a whole: one that overlaps another, where either writes, waits for it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
    writes: bool,
}

impl Range {
    fn disturbs(&self, other: &Self) -> bool {
        (self.writes || other.writes) && self.start < other.end && other.start < self.end
    }
}

/// As many as there are threads, at most.
#[derive(Default)]
pub(super) struct Ranges {
    held: Mutex<Vec<Range>>,
    freed: Condvar,
}

/// A range until it is dropped.
pub(super) struct Held<'r> {
    ranges: &'r Ranges,
    range: Range,
}

impl Ranges {
    fn held(&self) -> MutexGuard<'_, Vec<Range>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, held: &mut Vec<Range>, range: Range) -> Option<Held<'_>> {
        if held.iter().any(|other| other.disturbs(&range)) {
            return None;
        }
        held.push(range);
        Some(Held { ranges: self, range })
    }

    /// Bytes from `start` on, to be read or written, if nobody is in the way.
    pub(super) fn try_hold(&self, start: u64, len: u64, writes: bool) -> Option<Held<'_>> {
        let range = Range { start, end: start.saturating_add(len), writes };
        self.enter(&mut self.held(), range)
    }

    /// Waits until nobody is in the way. Whoever waits holds nothing else.
    pub(super) fn hold(&self, start: u64, len: u64, writes: bool) -> Held<'_> {
        let range = Range { start, end: start.saturating_add(len), writes };
        let mut held = self.held();
        loop {
            if let Some(mine) = self.enter(&mut held, range) {
                return mine;
            }
            held = self.freed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.ranges.held();
        if let Some(place) = held.iter().position(|range| *range == self.range) {
            held.swap_remove(place);
        }
        drop(held);
        self.ranges.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;

    #[test]
    fn only_what_overlaps_and_writes_waits() {
        let ranges = Ranges::default();
        let read = ranges.try_hold(0, 1024, false).unwrap();
        let other = ranges.try_hold(512, 1024, false).unwrap();
        assert!(ranges.try_hold(1023, 1, true).is_none());
        assert!(ranges.try_hold(1535, 512, true).is_none());
        let write = ranges.try_hold(1536, 512, true).unwrap();
        assert!(ranges.try_hold(1536, 512, false).is_none());
        drop((read, other));
        assert!(ranges.try_hold(0, 1536, true).is_some());
        drop(write);
        std::thread::scope(|scope| {
            let held = ranges.hold(0, 10, true);
            let waits = scope.spawn(|| drop(ranges.hold(5, 10, false)));
            drop(held);
            waits.join().unwrap();
        });
        assert!(ranges.try_hold(0, u64::MAX, true).is_some());
    }
}
