//! `vfio-irq-conformance`: see `--help`.

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use vfio_irq_conformance::cases::Outcome;
use vfio_irq_conformance::devices::Kind;
use vfio_irq_conformance::pin::Pinned;
use vfio_irq_conformance::regressions::{self, Place};
use vfio_irq_conformance::target::{Core, Kernel, Target};
use vfio_irq_conformance::{
    Error, answers, atomicity, bench, cases, compare, shortage, stress, vfio,
};

/// What a VFIO device's interrupts must do, tried on a running kernel.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every rule of the contract as a case; one line each.
    Cases {
        /// Address of a device bound to a VFIO driver, as 0000:00:03.0.
        #[arg(long)]
        bdf: String,
        /// Which device it is: says how its interrupts are raised.
        #[arg(long)]
        device: Kind,
        #[command(flatten)]
        expected: Expected,
        /// Only cases whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
        /// A line of JSON for each case.
        #[arg(long)]
        json: bool,
    },
    /// What a device answers to a long table of requests, good and bad.
    Answers {
        /// Address of a device bound to a VFIO driver.
        #[arg(long)]
        bdf: String,
        #[command(flatten)]
        expected: Expected,
    },
    /// Compares two such tables; fails where they differ and may not.
    Compare {
        /// The table of Linux's core.
        linux: PathBuf,
        /// The table of this project's.
        ours: PathBuf,
    },
    /// A request over six active vectors that fails in the middle: which still work?
    Atomicity {
        /// Address of an NVMe controller bound to a VFIO driver, as 0000:00:03.0.
        #[arg(long)]
        bdf: String,
        #[command(flatten)]
        expected: Expected,
    },
    /// Random requests while the device interrupts: nothing lost, nothing leaked.
    Stress {
        /// Address of an NVMe controller bound to a VFIO driver.
        #[arg(long)]
        bdf: String,
        #[command(flatten)]
        expected: Expected,
        /// How many requests.
        #[arg(long, default_value_t = 10_000)]
        requests: u64,
        /// Which requests.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Kill a process that does this after so many milliseconds, see that everything is back
        /// and the device works, and again.
        #[arg(long, value_name = "MS")]
        kill_after: Option<u64>,
        /// How often, with --kill-after.
        #[arg(long, default_value_t = 10)]
        rounds: u32,
    },
    /// What holds while the machine has no interrupt left; one line each.
    Shortage {
        /// Address of an NVMe controller bound to a VFIO driver.
        #[arg(long)]
        bdf: String,
        /// Addresses of others, which together have more vectors than the machine; repeated.
        #[arg(long = "other", required = true)]
        others: Vec<String>,
        #[command(flatten)]
        expected: Expected,
        /// Only those whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// What once went wrong in a driver, each in a process of its own; one line each.
    Regressions {
        #[command(flatten)]
        at: At,
        /// Only those whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// One of these, in this process.
    #[command(hide = true)]
    Regression {
        #[command(flatten)]
        at: At,
        /// Name of the regression.
        #[arg(long)]
        name: String,
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

#[derive(Debug, clap::Args)]
struct At {
    /// Address of an NVMe controller bound to a VFIO driver.
    #[arg(long)]
    bdf: String,
    /// Address of another device bound to a VFIO driver.
    #[arg(long)]
    other: Option<String>,
}

impl From<At> for Place {
    fn from(At { bdf, other }: At) -> Self {
        Self { bdf, other }
    }
}

#[derive(Debug, clap::Args)]
struct Expected {
    /// The vfio-pci-core to expect; by default that of the running kernel.
    #[arg(long)]
    core: Option<Core>,
}

impl Expected {
    fn core(&self) -> Core {
        self.core.unwrap_or_else(Core::loaded)
    }
}

fn run(command: Command) -> Result<bool, Error> {
    match command {
        Command::Cases { bdf, device, expected, only, json } => {
            let _pinned = Pinned::new()?;
            let mut target = Kernel::new(&bdf, device, expected.core())?;
            Ok(try_cases(&mut target, &only, json))
        }
        Command::Answers { bdf, expected } => {
            // Nothing is raised here, so any kind of device will do.
            let mut target = Kernel::new(&bdf, Kind::Xhci, expected.core())?;
            println!("answers of the core in {:?} for {bdf}", target.core());
            for row in answers::table(&mut target)? {
                println!("{row}");
            }
            Ok(true)
        }
        Command::Compare { linux, ours } => print_comparison(&linux, &ours),
        Command::Atomicity { bdf, expected } => {
            let core = expected.core();
            let report = atomicity::run(&mut Kernel::new(&bdf, Kind::Nvme, core)?)?;
            println!("{report}");
            Ok(core == Core::C || report.is_atomic())
        }
        Command::Stress { bdf, expected, requests, seed, kill_after, rounds } => {
            let plan = stress::Plan { bdf, core: expected.core(), requests, seed };
            if let Some(after) = kill_after {
                let killed = stress::kill(&plan, Duration::from_millis(after), rounds)?;
                println!("{killed}");
                return Ok(killed.is_clean());
            }
            let report = stress::run(&plan)?;
            println!("{report}");
            Ok(report.is_clean())
        }
        Command::Shortage { bdf, others, expected, only } => {
            let _pinned = Pinned::new()?;
            let core = expected.core();
            Ok(try_shortages(&shortage::Place { bdf, others, core }, &only))
        }
        Command::Regressions { at, only } => Ok(try_regressions(&at.into(), &only)),
        Command::Regression { at, name } => {
            let one = regressions::ALL.iter().find(|one| one.name == name);
            let unknown = || Error::Table(format!("no regression is called {name}"));
            println!("{}", one.ok_or_else(unknown)?.try_here(&at.into()));
            Ok(true)
        }
        Command::Bench { bdf, edu } => print_bench(&bdf, edu.as_deref()),
    }
}

/// The number of cases that held, and those that did not.
#[derive(Default)]
struct Score {
    passed: u32,
    /// Name and reason of each failure.
    failed: Vec<(&'static str, String)>,
}

impl Score {
    /// Counts an outcome. Returns it as a word, with the reason.
    fn count(
        &mut self,
        name: &'static str,
        outcome: Outcome,
        proves: &str,
    ) -> (&'static str, String) {
        match outcome {
            Outcome::Held => {
                self.passed += 1;
                ("ok", proves.trim().into())
            }
            Outcome::Broken(why) => {
                self.failed.push((name, why.clone()));
                ("FAIL", why)
            }
            Outcome::NotApplicable(why) => ("n/a", why),
        }
    }

    /// Prints the failures again, since of a long list only the end may be kept, and then the last
    /// line. Returns true if none failed.
    fn close(&self) -> bool {
        for (name, why) in &self.failed {
            println!("failed: {name}: {why}");
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        self.failed.is_empty()
    }
}

/// Tries the cases whose name contains `only`. Returns true if none failed.
fn try_cases(target: &mut Kernel, only: &str, json: bool) -> bool {
    let mut score = Score::default();
    for case in cases::all().filter(|case| case.name.contains(only)) {
        let (verdict, why) = score.count(case.name, case.try_on(target), case.proves);
        if json {
            let (name, proves) = (case.name, case.proves.trim());
            let line = serde_json::json!({
                "case": name, "verdict": verdict, "proves": proves, "why": why
            });
            println!("{line}");
        } else {
            println!("{verdict:<4} {:<38} {why}", case.name);
        }
    }
    score.close()
}

/// Tries the regressions whose name contains `only`. Returns true if none failed.
fn try_regressions(place: &Place, only: &str) -> bool {
    let mut score = Score::default();
    for one in regressions::ALL.iter().filter(|one| one.name.contains(only)) {
        let (verdict, why) = score.count(one.name, one.try_apart(place), one.proves);
        println!("{verdict:<4} {:<38} {why}", one.name);
    }
    score.close()
}

/// Tries the rules for a shortage of interrupts. Returns true if none failed.
fn try_shortages(place: &shortage::Place, only: &str) -> bool {
    let mut score = Score::default();
    for one in shortage::ALL.iter().filter(|one| one.name.contains(only)) {
        let (verdict, why) = score.count(one.name, one.try_at(place), one.proves);
        println!("{verdict:<4} {:<38} {why}", one.name);
    }
    score.close()
}

fn print_comparison(linux: &Path, ours: &Path) -> Result<bool, Error> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path);
        compare::read(&text.map_err(|source| Error::File { path: path.into(), source })?)
    };
    let comparison = compare::compare(&read(linux)?, &read(ours)?);
    for wrong in &comparison.wrong {
        println!("{wrong}");
    }
    let (rows, allowed, wrong) = (comparison.rows, comparison.allowed, comparison.wrong.len());
    println!("{rows} rows, {allowed} differ as they may, {wrong} differences");
    Ok(wrong == 0)
}

fn print_bench(bdf: &str, edu: Option<&str>) -> Result<bool, Error> {
    let _pinned = Pinned::new()?;
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
