//! `vfio-irq-conformance`: see `--help`.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use vfio_irq_conformance::devices::Kind;
use vfio_irq_conformance::target::{Driver, Kernel};
use vfio_irq_conformance::{Error, atomicity, vfio};

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
    }
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
