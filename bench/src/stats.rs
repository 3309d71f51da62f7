//! Statistics of the report.

use serde::Serialize;

/// The distribution of many measurements: the median, and the bounds of eight of ten.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Spread {
    /// Half of the values are no greater.
    pub median: f64,
    /// A tenth of the values is no greater.
    pub low: f64,
    /// Nine tenths of the values are no greater.
    pub high: f64,
}

impl Spread {
    /// Returns the spread of the values; `None` if there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let at = |tenths: usize| values.get((values.len().checked_sub(1)? * tenths + 5) / 10);
        Some(Self { median: median(&values)?, low: *at(1)?, high: *at(9)? })
    }

    /// Returns the spread of the ratios, pair by pair. Load that disturbs both of a pair cancels
    /// out.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let pairs = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0);
        Self::of(pairs.map(|(ours, theirs)| ours / theirs).collect())
    }
}

/// Returns the median of sorted values, or the mean of the two middle ones.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// Returns the median of values in any order; `None` if there are none.
pub fn median_of(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    median(&values)
}

#[cfg(test)]
mod tests {
    use super::{Spread, median_of};

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median_of(vec![]), None);
        assert_eq!(median_of(vec![7.0]), Some(7.0));
        assert_eq!(median_of(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median_of(vec![4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn one_disturbance_moves_nothing_but_the_bound() {
        let mut values = vec![10.0; 19];
        values.push(1e9);
        let spread = Spread::of(values).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (10.0, 10.0, 10.0));
    }

    #[test]
    fn bounds_leave_out_a_tenth_at_each_end() {
        let spread = Spread::of((0..=100).map(f64::from).collect()).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (10.0, 50.0, 90.0));
    }

    #[test]
    fn ratios_are_of_pairs() {
        // The third pair was disturbed: both values are ten times as large.
        let spread = Spread::of_ratios(&[1.0, 1.0, 10.0], &[2.0, 2.0, 20.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (0.5, 0.5, 0.5));
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
    }
}
