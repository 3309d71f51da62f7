//! Computes rates from counts.

use crate::counts::{Counts, Row};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The number of past rates for the diagram.
const PAST: usize = 512;

/// Counts at one time, and the changes since the previous reading.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Snapshot {
    /// Seconds since the first reading.
    pub seconds: f64,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
    /// The sum of all interrupts.
    pub total: u64,
    /// Interrupts per second since the previous reading; none for the first.
    pub rate: Option<f64>,
}

/// Computes snapshots from counts.
#[derive(Default)]
pub struct Meter {
    before: Option<Snapshot>,
    past: VecDeque<u64>,
}

impl Meter {
    /// Adds a reading, `at` after the first. Returns its snapshot.
    pub fn next(&mut self, mut counts: Counts, at: Duration) -> &Snapshot {
        let seconds = at.as_secs_f64();
        let total = counts.total();
        let mut rate = None;
        if let Some(before) = &self.before {
            let time = seconds - before.seconds;
            let is_new = is_new_start(&before.counts, &counts);
            let old = before.counts.vectors.iter().filter(|_| !is_new).filter_map(signals);
            let old: BTreeMap<_, _> = old.collect();
            let mut of_vectors = 0_u64;
            for row in &mut counts.vectors {
                let Some((vector, now)) = signals(row) else { continue };
                // A new vector has counted from 0, and so has a vector that counts less than
                // before.
                let before = old.get(&vector).copied().unwrap_or(0);
                let more = now.checked_sub(before).unwrap_or(now);
                of_vectors = of_vectors.saturating_add(more);
                row.rate = per_second(more, time);
            }
            let more = match &counts.gone {
                _ if is_new => total,
                // The sum of gone vectors contains the earlier count of the vector.
                Some(_) => total.saturating_sub(before.total),
                None => of_vectors,
            };
            rate = per_second(more, time);
        }
        if let Some(rate) = rate {
            self.past.truncate(PAST - 1);
            // Rounded, and never negative: a bar consists of whole dots.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            self.past.push_front(rate.round() as u64);
        }
        self.before.insert(Snapshot { seconds, counts, total, rate })
    }

    /// Returns the last snapshot.
    pub fn last(&self) -> Option<&Snapshot> {
        self.before.as_ref()
    }

    /// Returns the total rates, the latest first.
    pub fn past(&self) -> impl Iterator<Item = u64> {
        self.past.iter().copied()
    }
}

fn signals(row: &Row) -> Option<(u32, u64)> {
    Some((row.vector?, row.signals?))
}

/// Returns true if everything has counted from 0 since the previous reading: the index was disabled
/// and perhaps enabled again, or the server was restarted. Totals never decrease otherwise. The
/// count of one vector decreases if the vector is detached and attached again.
fn is_new_start(before: &Counts, now: &Counts) -> bool {
    let mode = |counts: &Counts| counts.facts.get("mode").cloned();
    let is_less =
        |(name, before): (&String, &u64)| now.totals.get(name).is_none_or(|now| now < before);
    mode(before) != mode(now) || before.totals.iter().any(is_less) || has_lost(before, now)
}

/// Returns true if a vector counts less or no longer exists, and its count was not added to the sum
/// of gone vectors.
fn has_lost(before: &Counts, now: &Counts) -> bool {
    let gone = |counts: &Counts| counts.gone.as_ref().and_then(|row| row.signals);
    let Some(gone_before) = gone(before) else { return false };
    let vectors: BTreeMap<_, _> = now.vectors.iter().filter_map(signals).collect();
    let counted = before.vectors.iter().filter_map(signals);
    let less = counted.filter(|(vector, count)| vectors.get(vector).is_none_or(|now| now < count));
    let moved = less.map(|(_, count)| count).fold(gone_before, u64::saturating_add);
    gone(now).is_none_or(|now| now < moved)
}

fn per_second(more: u64, seconds: f64) -> Option<f64> {
    // Counts beyond 2^53 lose digits, which is harmless.
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

    /// Returns the Rust core's counts: `requests` since the index was enabled, vectors, and the sum
    /// of gone vectors.
    fn core(requests: u64, signals: &[(u32, u64)], gone: u64) -> Counts {
        Counts {
            facts: [("mode".to_owned(), "msix".into())].into(),
            totals: [("requests".to_owned(), requests)].into(),
            gone: Some(Row { signals: Some(gone), ..Row::default() }),
            ..counts(signals)
        }
    }

    fn idle() -> Counts {
        Counts { facts: [("mode".to_owned(), "idle".into())].into(), ..Counts::default() }
    }

    /// Returns the total rates and the rates of vectors, from one reading each second.
    fn table(looks: &[Counts]) -> Vec<(Option<f64>, Vec<Option<f64>>)> {
        let mut meter = Meter::default();
        let looks = looks.iter().zip(0..);
        let rates = looks.map(|(counts, second)| {
            let snapshot = meter.next(counts.clone(), Duration::from_secs(second));
            (snapshot.rate, rates(snapshot))
        });
        rates.skip(1).collect()
    }

    #[test]
    fn an_index_that_is_enabled_again_counts_from_0() {
        let first = core(9, &[(0, 5), (1, 100)], 0);
        // One vector counts more than before, and all of it is new.
        let again = core(2, &[(0, 10), (1, 200)], 0);
        let expected = (Some(210.0), vec![Some(10.0), Some(200.0)]);
        assert_eq!(table(&[first.clone(), again]), [expected]);
        // The number of requests is the same: the vectors show the restart.
        let again = core(9, &[(0, 10), (1, 20)], 0);
        let expected = (Some(30.0), vec![Some(10.0), Some(20.0)]);
        assert_eq!(table(&[first.clone(), again]), [expected]);
        // The sum is greater, but the count of the second vector is lost.
        let again = core(9, &[(0, 150)], 0);
        assert_eq!(table(&[first, again]), [(Some(150.0), vec![Some(150.0)])]);
    }

    #[test]
    fn a_device_that_is_closed_and_opened_again_has_no_negative_rate() {
        let looks = [core(3, &[(0, 50)], 4), idle(), idle(), core(1, &[(0, 60)], 0)];
        let expected = [(Some(0.0), vec![]), (Some(0.0), vec![]), (Some(60.0), vec![Some(60.0)])];
        assert_eq!(table(&looks), expected);
    }

    #[test]
    fn a_vector_that_goes_takes_no_interrupts_along() {
        let looks = [
            core(3, &[(0, 50), (1, 20)], 0),
            // Three interrupts came before it was detached.
            core(4, &[(0, 60)], 23),
            core(5, &[(0, 60), (1, 2)], 23),
        ];
        let expected = [(Some(13.0), vec![Some(10.0)]), (Some(2.0), vec![Some(0.0), Some(2.0)])];
        assert_eq!(table(&looks), expected);
        // In /proc/interrupts, the count disappears with the vector.
        let looks = [counts(&[(0, 50), (1, 20)]), counts(&[(0, 60)])];
        assert_eq!(table(&looks), [(Some(10.0), vec![Some(10.0)])]);
    }
}
