//! `vfio-irq watch`.

mod app;
pub mod columns;
mod load;
mod meter;
mod run;
mod screen;
mod source;
#[cfg(test)]
mod tests;
mod view;

use crate::complete;
use crate::error::Error;
use crate::pci::System;
use crate::report::Out;
use crate::target::TargetName;
use clap_complete::engine::ArgValueCompleter;
use meter::Meter;
pub use meter::Snapshot;
pub use source::Source;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The options of `watch`.
#[derive(clap::Args)]
pub struct Options {
    /// The device
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    target: TargetName,
    /// Print what is counted now, and end
    #[arg(long)]
    once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// End after so many looks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=86_400.0).contains(seconds));
    let seconds = seconds.ok_or("an interval is a number of seconds from 0.01 to 86400")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Shows the counts.
pub fn run(system: &System, out: Out, options: &Options) -> Result<(), Error> {
    let source = Source::of(system, &options.target.find(system)?)?;
    let plain = options.once || out.json || options.count.is_some();
    if !plain && std::io::stdout().is_terminal() && is_able() {
        return run::run(&source, options.interval);
    }
    let most = if options.once { Some(1) } else { options.count };
    let (mut meter, begun) = (Meter::default(), Instant::now());
    for look in 0_u64.. {
        if most.is_some_and(|most| look >= most) {
            break;
        }
        if look > 0 {
            let due = options.interval.saturating_mul(u32::try_from(look).unwrap_or(u32::MAX));
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        let snapshot = meter.next(source.read()?, begun.elapsed());
        out.line(snapshot, || {
            let again = if look > 0 { "\n" } else { "" };
            format!("{again}{}", columns::plain(&snapshot.counts, snapshot.rate))
        })?;
    }
    Ok(())
}

/// Returns true if the terminal supports drawing.
fn is_able() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}
