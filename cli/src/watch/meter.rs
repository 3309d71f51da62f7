//! From counts to rates.

use crate::counts::{Counts, Row};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What is kept for the picture of the past.
const PAST: usize = 512;

/// Counts at one time, and what has happened since the time before.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Snapshot {
    /// Seconds since the first one.
    pub seconds: f64,
    /// What is counted.
    #[serde(flatten)]
    pub counts: Counts,
    /// Interrupts in all.
    pub total: u64,
    /// Interrupts per second since the one before; none for the first.
    pub rate: Option<f64>,
}

/// Turns counts into snapshots.
#[derive(Default)]
pub struct Meter {
    before: Option<Snapshot>,
    past: VecDeque<u64>,
}

impl Meter {
    /// The next one, this long after the first.
    pub fn next(&mut self, mut counts: Counts, at: Duration) -> &Snapshot {
        let seconds = at.as_secs_f64();
        let total = counts.total();
        let mut rate = None;
        if let Some(before) = &self.before {
            let time = seconds - before.seconds;
            rate = per_second(before.total, total, time);
            let old: BTreeMap<_, _> = before.counts.vectors.iter().filter_map(signals).collect();
            for row in &mut counts.vectors {
                let Some((vector, now)) = signals(row) else { continue };
                // One that was not there has counted from 0.
                row.rate = per_second(old.get(&vector).copied().unwrap_or(0), now, time);
            }
        }
        if let Some(rate) = rate {
            self.past.truncate(PAST - 1);
            // Rounded, and never negative: a bar has whole dots.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            self.past.push_front(rate.round() as u64);
        }
        self.before.insert(Snapshot { seconds, counts, total, rate })
    }

    /// The last one.
    pub fn last(&self) -> Option<&Snapshot> {
        self.before.as_ref()
    }

    /// Rates in all, the latest first.
    pub fn past(&self) -> impl Iterator<Item = u64> {
        self.past.iter().copied()
    }
}

fn signals(row: &Row) -> Option<(u32, u64)> {
    Some((row.vector?, row.signals?))
}

/// A count that went back has begun anew.
fn per_second(before: u64, now: u64, seconds: f64) -> Option<f64> {
    let more = now.checked_sub(before).unwrap_or(now);
    // Counts beyond 2^53 lose digits that nobody looks at.
    #[allow(clippy::cast_precision_loss)]
    (seconds > 0.0).then(|| (more as f64 / seconds * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::{Meter, Snapshot};
    use crate::counts::{Counts, Row};
    use std::time::Duration;

    fn counts(signals: &[(u32, u64)]) -> Counts {
        let row = |(vector, signals): &(u32, u64)| Row {
            vector: Some(*vector),
            signals: Some(*signals),
            ..Row::default()
        };
        Counts { vectors: signals.iter().map(row).collect(), ..Counts::default() }
    }

    fn rates(snapshot: &Snapshot) -> Vec<Option<f64>> {
        snapshot.counts.vectors.iter().map(|row| row.rate).collect()
    }

    #[test]
    fn rates_are_differences() {
        let mut meter = Meter::default();
        let first = meter.next(counts(&[(0, 100)]), Duration::ZERO);
        assert_eq!((first.rate, first.counts.vectors[0].rate, first.total), (None, None, 100));
        let second = meter.next(counts(&[(0, 120), (1, 10)]), Duration::from_secs(2));
        assert_eq!((second.rate, rates(second)), (Some(15.0), vec![Some(10.0), Some(5.0)]));
        // The device was closed and opened again.
        let third = meter.next(counts(&[(0, 4)]), Duration::from_secs(4));
        assert_eq!((third.rate, rates(third)), (Some(2.0), vec![Some(2.0)]));
        assert_eq!(meter.past().collect::<Vec<_>>(), [2, 15]);
    }
}
