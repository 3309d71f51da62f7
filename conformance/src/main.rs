//! `vfio-irq-conformance`: see `--help`.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use vfio_irq_conformance::devices::Kind;
use vfio_irq_conformance::target::{Driver, Kernel};
use vfio_irq_conformance::{Error, atomicity, bench, vfio};

/// What a VFIO device's interrupts must do, tried on a running kernel.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A request over six active vectors that fails in the middle: which still work?
    Atomicity {
        /// Address of an NVMe controller bound to a VFIO driver, as 0000:00:03.0.
        #[arg(long)]
        bdf: String,
    },
    /// What each operation costs, as JSON lines and as a table.
    Bench {
        /// Address of a device with 65 vectors of MSI-X.
        #[arg(long)]
        bdf: String,
        /// Address of an edu device, for the path of an interrupt.
        #[arg(long)]
        edu: Option<String>,
    },
}

/// The driver that a device is bound to.
fn driver_of(bdf: &str) -> Result<Driver, Error> {
    let name = vfio::bound_driver(bdf)?;
    let why = || format!("it is bound to {name}, of which nothing is known here");
    Driver::named(&name).ok_or_else(|| Error::Device { bdf: bdf.into(), why: why() })
}

fn run(command: Command) -> Result<bool, Error> {
    match command {
        Command::Atomicity { bdf } => {
            let driver = driver_of(&bdf)?;
            let report = atomicity::run(&mut Kernel::new(&bdf, Kind::Nvme, driver)?)?;
            println!("{report}");
            Ok(driver == Driver::VfioPci || report.is_atomic())
        }
        Command::Bench { bdf, edu } => print_bench(&bdf, edu.as_deref()),
    }
}

fn print_bench(bdf: &str, edu: Option<&str>) -> Result<bool, Error> {
    let times = bench::Repetitions::default();
    let mut figures = bench::requests(&vfio::Opener::new(bdf)?, times)?;
    if let Some(edu) = edu {
        figures.extend(bench::interrupt(&vfio::Opener::new(edu)?, times)?);
    }
    for figure in &figures {
        println!("{}", figure.json());
    }
    println!("{}", bench::heading());
    for figure in &figures {
        println!("{figure}");
    }
    Ok(true)
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vfio-irq-conformance: {error}");
            ExitCode::from(2)
        }
    }
}
