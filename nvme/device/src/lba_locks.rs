//! Locks on ranges of the disk. Workers carry out commands at the same time, and each block must be
//! read and written as a whole. If two commands overlap and one of them writes, the second waits.

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

/// The held locks: at most one per worker.
#[derive(Default)]
pub(crate) struct LbaLocks {
    held: Mutex<Vec<Range>>,
    freed: Condvar,
}

/// A lock on a range, held until dropped.
pub(crate) struct LbaLock<'r> {
    locks: &'r LbaLocks,
    range: Range,
}

impl LbaLocks {
    fn held(&self) -> MutexGuard<'_, Vec<Range>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, held: &mut Vec<Range>, range: Range) -> Option<LbaLock<'_>> {
        if held.iter().any(|other| other.disturbs(&range)) {
            return None;
        }
        held.push(range);
        Some(LbaLock { locks: self, range })
    }

    /// Locks `len` bytes from `start` for reading or writing. Returns `None` if a held lock
    /// conflicts.
    pub(crate) fn try_hold(&self, start: u64, len: u64, writes: bool) -> Option<LbaLock<'_>> {
        let range = Range { start, end: start.saturating_add(len), writes };
        self.enter(&mut self.held(), range)
    }

    /// Locks `len` bytes from `start`, and waits for conflicting locks. The caller must hold no
    /// other lock (deadlock).
    pub(crate) fn hold(&self, start: u64, len: u64, writes: bool) -> LbaLock<'_> {
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

impl Drop for LbaLock<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held();
        if let Some(place) = held.iter().position(|range| *range == self.range) {
            held.swap_remove(place);
        }
        drop(held);
        self.locks.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::LbaLocks;

    #[test]
    fn only_what_overlaps_and_writes_waits() {
        let lba_locks = LbaLocks::default();
        let read = lba_locks.try_hold(0, 1024, false).unwrap();
        let other = lba_locks.try_hold(512, 1024, false).unwrap();
        assert!(lba_locks.try_hold(1023, 1, true).is_none());
        assert!(lba_locks.try_hold(1535, 512, true).is_none());
        let write = lba_locks.try_hold(1536, 512, true).unwrap();
        assert!(lba_locks.try_hold(1536, 512, false).is_none());
        drop((read, other));
        assert!(lba_locks.try_hold(0, 1536, true).is_some());
        drop(write);
        std::thread::scope(|scope| {
            let held = lba_locks.hold(0, 10, true);
            let waits = scope.spawn(|| drop(lba_locks.hold(5, 10, false)));
            drop(held);
            waits.join().unwrap();
        });
        assert!(lba_locks.try_hold(0, u64::MAX, true).is_some());
    }
}
