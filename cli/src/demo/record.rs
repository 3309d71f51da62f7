//! The counts and the times of a run.

use super::Method;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;

/// Completions that follow each other faster than this are drawn as one bar.
const APART: Duration = Duration::from_millis(4);

/// The result of one method.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Run {
    /// How vectors were added.
    pub method: Method,
    /// Queues at the end.
    pub queues: u16,
    /// Commands that were completed.
    pub completed: u64,
    /// Interrupts that the device raised.
    pub raised: u64,
    /// Interrupts that reached their eventfd.
    pub delivered: u64,
    /// Interrupts that did not reach their eventfd.
    pub lost: u64,
    /// Completions for which no interrupt came for a second.
    pub stalls: u64,
    /// The longest time, in microseconds, that a queue waited for a completion.
    pub longest_gap_us: u64,
    /// The longest time, in microseconds, that it took to add a queue.
    pub longest_add_us: u64,
}

/// One queue's line of the picture. All times count from the start of the run.
#[derive(Clone, Debug)]
pub struct Lane {
    /// When the queue was created.
    pub since: Duration,
    /// Periods of work without a pause.
    pub busy: Vec<(Duration, Duration)>,
    /// When a stall was detected.
    pub stalls: Vec<Duration>,
    /// The longest time between two completions.
    pub longest_gap: Duration,
    last: Duration,
}

impl Lane {
    /// Creates the line of a queue that was added at this time.
    pub fn new(since: Duration) -> Self {
        let (busy, stalls) = (vec![(since, since)], Vec::new());
        Self { since, busy, stalls, longest_gap: Duration::ZERO, last: since }
    }

    /// Records completions now; `stalled` if no interrupt announced them.
    pub fn note(&mut self, now: Duration, stalled: bool) {
        let gap = now.saturating_sub(self.last);
        self.longest_gap = self.longest_gap.max(gap);
        self.last = now;
        match self.busy.last_mut() {
            Some((_, end)) if gap < APART => *end = now,
            _ => self.busy.push((now, now)),
        }
        if stalled {
            self.stalls.push(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lane;
    use std::time::Duration;

    #[test]
    fn a_lane_knows_its_gaps() {
        let at = Duration::from_millis;
        let mut lane = Lane::new(at(10));
        [11, 12, 13].into_iter().for_each(|now| lane.note(at(now), false));
        lane.note(at(1013), true);
        lane.note(at(1014), false);
        assert_eq!(lane.busy, [(at(10), at(13)), (at(1013), at(1014))]);
        assert_eq!((lane.longest_gap, lane.stalls), (at(1000), vec![at(1013)]));
    }
}
