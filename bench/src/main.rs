//! Measures what emulated devices cost, in one run, beside other implementations: see the README.

mod cpus;
mod device;
mod error;
mod goal;
mod memory;
mod raises;
mod report;
mod stats;
mod wire;

use clap::{Args, Parser, Subcommand};
use error::Error;
use report::Report;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use vfio_irq_user::ClientOptions;

/// Measures emulated devices: round trips, interrupts, memory. All of it unless told otherwise.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    only: Option<Only>,
}

#[derive(Args)]
struct Settings {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Processors of the client and of the servers [default: the first two, if there are two]
    #[arg(long, global = true, value_delimiter = ',', value_name = "CLIENT,SERVERS")]
    cpus: Option<Vec<usize>>,
    /// How often each server is asked in turn
    #[arg(long, global = true, default_value_t = 40)]
    rounds: usize,
    /// Round trips of a turn
    #[arg(long, global = true, default_value_t = 100)]
    batch: usize,
    /// How many batches of interrupts
    #[arg(long, global = true, default_value_t = 1000)]
    batches: usize,
    /// Interrupts of a batch
    #[arg(long, global = true, default_value_t = 1000)]
    raises: usize,
    /// How many devices to have at a time
    #[arg(long, global = true, default_value_t = 1000)]
    devices: usize,
}

#[derive(Subcommand, Clone)]
enum Only {
    /// Only round trips
    Wire,
    /// Only interrupts
    Raises,
    /// Only memory
    Memory,
    /// The process of the servers, which the others start
    #[command(hide = true)]
    Servers {
        /// Where their sockets go
        folder: PathBuf,
        /// Where they run
        #[arg(long)]
        cpu: Option<usize>,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfio-irq-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Error> {
    if let Some(Only::Servers { folder, cpu }) = &cli.only {
        cpu.map_or(Ok(()), cpus::pin)?;
        return wire::servers::run(folder);
    }
    let settings = &cli.settings;
    settings.check()?;
    let folder = tempfile::tempdir().map_err(Error::system("no folder for sockets"))?;
    let report = measure(settings, cli.only.as_ref(), folder.path())?;
    let text = if settings.json {
        let text = serde_json::to_string_pretty(&report);
        text.map_err(Error::device("no JSON"))? + "\n"
    } else {
        report.to_string()
    };
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(Error::system("cannot write the report"))
}

fn measure(settings: &Settings, only: Option<&Only>, folder: &Path) -> Result<Report, Error> {
    let cpus = cpus::choose(settings.cpus.as_deref())?;
    let mut report = Report::new(cpus);
    // Memory comes first, while the allocator holds no free memory.
    if matches!(only, None | Some(Only::Memory)) {
        report.memory = Some(memory::measure(folder, settings.devices)?);
    }
    cpus.map_or(Ok(()), |pair| cpus::pin(pair.client))?;
    if matches!(only, None | Some(Only::Wire)) {
        let servers = wire::servers::Servers::start(folder, cpus.map(|pair| pair.server))?;
        let (rounds, batch) = (settings.rounds, settings.batch);
        let with = |spin| wire::measure(&servers.sockets, spin, rounds, batch);
        report.wire = Some(vec![with(ClientOptions::default().spin)?, with(Duration::ZERO)?]);
    }
    if matches!(only, None | Some(Only::Raises)) {
        report.raises = Some(raises::measure(folder, settings.batches, settings.raises)?);
    }
    Ok(report)
}

impl Settings {
    fn check(&self) -> Result<(), Error> {
        let all = [
            ("--rounds", self.rounds),
            ("--batch", self.batch),
            ("--batches", self.batches),
            ("--raises", self.raises),
            ("--devices", self.devices),
        ];
        let nothing = all.into_iter().find(|(_, number)| *number == 0);
        nothing.map_or(Ok(()), |(name, _)| Err(Error::Nothing(name)))
    }
}
