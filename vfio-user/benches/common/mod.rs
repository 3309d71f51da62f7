//! Measures in pairs, and prints a ratio beside its goal.
//!
//! Both sides of a pair are measured in turn, in one run, so that other load on the machine meets
//! both alike. That is why criterion does not fit: it measures one side after the other.
#![allow(dead_code, reason = "each bench uses a part")]

use vfio_irq_user::{Device, Errno};

/// The device that all servers emulate: registers that read as sevens.
pub struct Registers;

impl Device for Registers {
    fn read(&mut self, _: u32, _: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.fill(7);
        Ok(())
    }

    fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn reset(&mut self) {}
}

/// Returns the value below which `tenths` of the values lie; NaN if there are none.
pub fn quantile(values: &[f64], tenths: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get((sorted.len().saturating_sub(1) * tenths + 5) / 10).copied().unwrap_or(f64::NAN)
}

/// Returns the median.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 5)
}

/// Formats the median of the ratios, pair by pair, and the range of eight of ten. Load that
/// disturbs both of a pair cancels out. A wide range means that the machine was busy.
pub fn ratio(ours: &[f64], theirs: &[f64], goal: Option<f64>) -> String {
    let ratios: Vec<_> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    let [low, median, high] = [1, 5, 9].map(|tenths| quantile(&ratios, tenths));
    let goal = goal.map_or_else(String::new, |goal| {
        format!("  goal ≤ {goal} {}", if median <= goal { "met" } else { "MISSED" })
    });
    format!("{median:.2} ({low:.2} to {high:.2}){goal}")
}

/// Returns the number in the environment variable `name`, or `default`.
pub fn number(name: &str, default: usize) -> usize {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}
