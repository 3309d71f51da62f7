//! `vfio-irq metrics`: the counts of devices in the format of OpenMetrics.

use crate::complete;
use crate::counts::{Counts, Row};
use crate::error::Error;
use crate::file;
use crate::pci::System;
use crate::report;
use crate::target::{Target, TargetName};
use crate::watch::Source;
use clap_complete::engine::ArgValueCompleter;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use tracing::warn;

/// The options of `metrics`.
#[derive(clap::Args)]
pub struct Options {
    /// The devices; by default every function that a VFIO driver has
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    targets: Vec<TargetName>,
    /// Write a file, whose readers see the old text or the new one, instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Names of labels with their values.
type Labels = Vec<(&'static str, String)>;

/// The metrics with their meanings, in the order of a [`Row`]'s counts.
pub const COUNTERS: [(&str, &str); 6] = [
    ("vfio_irq_signals", "Interrupts signalled"),
    ("vfio_irq_masks", "Times a vector was masked"),
    ("vfio_irq_unmasks", "Times a vector was unmasked"),
    ("vfio_irq_retargets", "Times the eventfd of a vector was replaced"),
    ("vfio_irq_loopbacks", "Times a request signalled a vector"),
    ("vfio_irq_failures", "Requests that failed because of a vector"),
];

/// Prints the counts.
pub fn run(system: &System, json: bool, options: &Options) -> Result<(), Error> {
    if json {
        let remedy = "`vfio-irq watch TARGET --once --json` prints the counts of a device as JSON";
        return Err(Error::new("metrics have one format, OpenMetrics", remedy).misunderstood());
    }
    let mut metrics = Metrics::default();
    for name in &options.targets {
        let target = name.find(system)?;
        metrics.add(&target, &Source::of(system, &target)?.read()?);
    }
    if options.targets.is_empty() {
        for function in system.functions()?.into_iter().filter(|function| function.vfio) {
            let target = Target::Pci(function.bdf);
            // A function may go while the others are read.
            match Source::of(system, &target).and_then(|source| source.read()) {
                Ok(counts) => metrics.add(&target, &counts),
                Err(error) => warn!(device = %target, %error, "a device is left out"),
            }
        }
    }
    let text = metrics.text()?;
    match &options.output {
        None => report::print(&text),
        Some(file) => replace(file, &text),
    }
}

/// The samples of each metric, in the order of the devices and their vectors.
#[derive(Debug, Default)]
struct Metrics {
    devices: Vec<(Labels, u64)>,
    vectors: Vec<(Labels, u64)>,
    operations: Vec<(Labels, u64)>,
    counters: [Vec<(Labels, u64)>; COUNTERS.len()],
}

impl Metrics {
    fn add(&mut self, target: &Target, counts: &Counts) {
        let device = || ("device", target.to_string());
        let mode = counts.facts.get("mode").map(ToString::to_string).unwrap_or_default();
        let labels = vec![device(), ("driver", counts.driver.clone()), ("mode", mode)];
        self.devices.push((labels, 1));
        for (operation, count) in &counts.totals {
            self.operations.push((vec![device(), ("operation", operation.clone())], *count));
        }
        let mut states = BTreeMap::<&str, u64>::new();
        for row in counts.vectors.iter().chain(&counts.gone) {
            if let Some(state) = &row.state {
                *states.entry(state).or_default() += 1;
            }
            let vector = row.vector.map_or_else(|| "gone".to_owned(), |number| number.to_string());
            let Row { signals, masks, unmasks, retargets, loopbacks, failures, .. } = row;
            let values = [signals, masks, unmasks, retargets, loopbacks, failures];
            for (samples, value) in self.counters.iter_mut().zip(values) {
                let labels = || vec![device(), ("vector", vector.clone())];
                samples.extend(value.map(|value| (labels(), value)));
            }
        }
        for (state, count) in states {
            self.vectors.push((vec![device(), ("state", state.to_owned())], count));
        }
    }

    /// Returns all metrics in the format of OpenMetrics.
    fn text(self) -> Result<String, Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry)
            .map_err(|error| Error::plain(format!("the metrics cannot be written: {error}")))?;
        Ok(text)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut encode = |name: &str, help: &str, samples: &[(Labels, u64)], kind| {
            if samples.is_empty() {
                return Ok(());
            }
            let mut metric = encoder.encode_descriptor(name, &format!("{help}."), None, kind)?;
            for (labels, value) in samples {
                let mut sample = metric.encode_family(labels)?;
                match kind {
                    MetricType::Counter => sample.encode_counter::<Labels, _, u64>(value, None)?,
                    _ => sample.encode_gauge(value)?,
                }
            }
            Ok(())
        };
        let help = "1 for each device, with its driver and its active index";
        encode("vfio_irq_device", help, &self.devices, MetricType::Gauge)?;
        encode("vfio_irq_vectors", "Vectors by their state", &self.vectors, MetricType::Gauge)?;
        let help = "Requests to the device, and what they did";
        encode("vfio_irq_operations", help, &self.operations, MetricType::Counter)?;
        for ((name, help), samples) in COUNTERS.into_iter().zip(&self.counters) {
            encode(name, help, samples, MetricType::Counter)?;
        }
        Ok(())
    }
}

fn replace(file: &Path, text: &str) -> Result<(), Error> {
    file::replace(file, text).map_err(|error| {
        let remedy = "choose a file in a directory that may be written";
        Error::new(format!("cannot write {}: {error}", file.display()), remedy)
    })
}
