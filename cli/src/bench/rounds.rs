//! Measures one request at a time, by the clock.

use crate::error::Error;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use vfio_irq::{Capabilities, Index, Transport, Trigger, Vectors};

/// How many vectors are enabled at once, if the index has so many.
const MANY: u32 = 64;

/// The cost of a request, in microseconds.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Cost {
    /// The request.
    pub request: String,
    /// Number of samples.
    pub samples: usize,
    /// The minimum.
    pub min_us: f64,
    /// The median.
    pub median_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
}

impl Cost {
    fn of(request: &str, mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        let last = samples.len().checked_sub(1)?;
        let at = |per_cent: usize| {
            let sample = samples.get((last * per_cent).div_ceil(100))?;
            // The clock counts nanoseconds, so more digits would have no meaning.
            Some((sample.as_secs_f64() * 1e9).round() / 1e3)
        };
        let request = request.to_owned();
        Some(Self {
            request,
            samples: samples.len(),
            min_us: at(0)?,
            median_us: at(50)?,
            p99_us: at(99)?,
        })
    }
}

/// The samples so far, in the order of the first sample of each request.
#[derive(Default)]
struct Samples {
    names: Vec<String>,
    samples: BTreeMap<String, Vec<Duration>>,
}

impl Samples {
    fn time<R>(&mut self, name: &str, request: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let result = request();
        let took = begun.elapsed();
        if !self.samples.contains_key(name) {
            self.names.push(name.to_owned());
        }
        self.samples.entry(name.to_owned()).or_default().push(took);
        result
    }

    fn costs(mut self) -> Vec<Cost> {
        let names = self.names.iter();
        names.filter_map(|name| Cost::of(name, self.samples.remove(name)?)).collect()
    }
}

/// Makes every request `rounds` times. The index is disabled afterwards.
///
/// # Errors
///
/// If a request fails that should succeed.
pub fn measure(
    device: &impl Transport,
    index: Index,
    rounds: u32,
) -> Result<(Capabilities, Vec<Cost>), Error> {
    let vectors = Vectors::open(device, index)?;
    let capabilities = *vectors.capabilities();
    let count = capabilities.count().min(MANY);
    let triggers: Result<Vec<Trigger>, _> = (0..count.max(2)).map(|_| Trigger::new()).collect();
    let triggers = triggers?;
    let mut samples = Samples::default();
    for _ in 0..rounds {
        samples.time("GET_IRQ_INFO", || Capabilities::of(&device, index))?;
        one_by_one(&vectors, &triggers, &mut samples)?;
        at_once(&vectors, &triggers, count, &mut samples)?;
    }
    Ok((capabilities, samples.costs()))
}

/// Makes a round with one or two vectors.
fn one_by_one<T: Transport>(
    vectors: &Vectors<T>,
    triggers: &[Trigger],
    samples: &mut Samples,
) -> Result<(), Error> {
    let [one, other, ..] = triggers else { return Ok(()) };
    let first = samples.time("first enable", || vectors.enable(0, one))?;
    if vectors.capabilities().count() > 1 {
        let second = samples.time("add one", || vectors.enable(1, other))?;
        samples.time("detach", || second.detach())?;
        let second = samples.time("attach again", || vectors.enable(1, other))?;
        second.detach()?;
    }
    samples.time("re-target", || first.retarget(other))?;
    samples.time("same eventfd again", || first.retarget(other))?;
    if vectors.capabilities().maskable() {
        samples.time("mask", || first.mask())?;
        samples.time("unmask", || first.unmask())?;
    }
    samples.time("loopback", || first.loopback())?;
    if other.take() != 1 {
        return Err(Error::plain("the loopback did not signal the eventfd once"));
    }
    samples.time("disable", || vectors.disable())?;
    Ok(())
}

/// Makes a round with many vectors.
fn at_once<T: Transport>(
    vectors: &Vectors<T>,
    triggers: &[Trigger],
    count: u32,
    samples: &mut Samples,
) -> Result<(), Error> {
    if count < 2 {
        return Ok(());
    }
    let held = samples.time(&format!("enable {count} at once"), || {
        vectors.enable_many((0..count).zip(triggers))
    })?;
    samples.time(&format!("disable {count}"), || vectors.disable())?;
    drop(held);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Cost;
    use std::time::Duration;

    #[test]
    fn percentiles_are_samples() {
        let samples = |n: u64| (1..=n).rev().map(Duration::from_micros).collect();
        let cost = Cost::of("x", samples(101)).unwrap();
        assert_eq!((cost.min_us, cost.median_us.round(), cost.p99_us.round()), (1.0, 51.0, 100.0));
        let cost = Cost::of("x", vec![Duration::from_nanos(10_615)]).unwrap();
        assert_eq!(cost.median_us.to_string(), "10.615");
        let cost = Cost::of("x", samples(1)).unwrap();
        assert_eq!((cost.min_us, cost.median_us, cost.p99_us), (1.0, 1.0, 1.0));
        assert!(Cost::of("x", Vec::new()).is_none());
    }
}
