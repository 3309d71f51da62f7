//! `vfio-irq bench`.

mod rounds;

use crate::complete;
use crate::error::Error;
use crate::info::{VfToken, device, name, spelling};
use crate::pci::System;
use crate::report::{self, Out};
use crate::target::{Target, TargetName};
use clap_complete::engine::ArgValueCompleter;
use rounds::{Cost, measure};
use schemars::JsonSchema;
use serde::Serialize;
use vfio_irq::{Index, Name, Transport, sim::Simulated};

/// The options of `bench`.
#[derive(clap::Args)]
pub struct Options {
    /// The device; nothing else may be using it
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    target: TargetName,
    /// How often each request is made
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rounds: u32,
    /// Which vectors
    #[arg(long, value_enum)]
    index: Option<Kind>,
    #[command(flatten)]
    token: VfToken,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Kind {
    Msi,
    Msix,
}

/// What `bench --json` prints.
#[derive(Serialize, JsonSchema)]
pub struct Document {
    /// The device.
    target: String,
    /// `msi` or `msix`.
    index: &'static str,
    /// Vectors of the index.
    vectors: u32,
    /// Vectors can be added while others are in use.
    dynamic: bool,
    /// Vectors can be masked.
    maskable: bool,
    /// Times each request was made.
    rounds: u32,
    /// The cost of each request.
    costs: Vec<Cost>,
}

/// Measures the requests.
pub fn run(system: &System, out: Out, options: &Options) -> Result<(), Error> {
    let target = options.target.find(system)?;
    if !matches!(target, Target::Pci(_)) {
        options.token.none(&target)?;
    }
    let document = match &target {
        Target::Pci(bdf) => {
            let function = system.function(*bdf)?;
            document(&device::open(system, &function, &options.token)?.device, &target, options)
        }
        Target::User(path) => document(device::connect(path)?, &target, options),
        Target::Sim => document(Simulated::new(), &target, options),
    }?;
    out.one(&document, || {
        let Document { target, index, vectors, rounds, .. } = &document;
        let rows = document.costs.iter().map(|cost| {
            let micros =
                [cost.min_us, cost.median_us, cost.p99_us].map(|value| format!("{value:.1}"));
            [vec![cost.request.clone()], micros.to_vec()].concat()
        });
        let table = report::table(&["REQUEST", ">MIN", ">MEDIAN", ">P99"], rows);
        format!("{target}: {vectors} vectors of {}, {rounds} rounds, µs\n{table}", name(index))
    })
}

fn document<T: Transport>(
    device: T,
    target: &Target,
    options: &Options,
) -> Result<Document, Error> {
    let index = match options.index {
        Some(Kind::Msi) => Index::Msi,
        Some(Kind::Msix) => Index::Msix,
        None if device.irq_info(Index::Msix).is_ok_and(|info| info.count > 0) => Index::Msix,
        None => Index::Msi,
    };
    let has = |index| device.irq_info(index).is_ok_and(|info| info.count > 0);
    if !has(index) {
        let there = [(Index::Msix, "msix"), (Index::Msi, "msi")];
        let what = format!("{target} has no vectors of {}", Name(index));
        return Err(match there.into_iter().find(|(other, _)| has(*other)) {
            Some((_, other)) => Error::new(what, format!("say --index {other}")),
            None => Error::new(what, "there is nothing to measure: choose another device"),
        });
    }
    let (capabilities, costs) = measure(&device, index, options.rounds)?;
    Ok(Document {
        target: target.to_string(),
        index: spelling(index),
        vectors: capabilities.count(),
        dynamic: capabilities.resizable(),
        maskable: capabilities.maskable(),
        rounds: options.rounds,
        costs,
    })
}
