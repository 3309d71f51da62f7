//! `vfio-irq-conformance`: see `--help`.

use clap::{Parser, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use vfio_irq_conformance::cases::{Case, Outcome};
use vfio_irq_conformance::differential::{self, Plan, Tally};
use vfio_irq_conformance::pin::Pinned;
use vfio_irq_conformance::regressions::Place;
use vfio_irq_conformance::target::{Core, Kernel, Simulator, Socket, Target};
use vfio_irq_conformance::{
    Error, answers, atomicity, cases, compare, faults, instructions, regressions, storm, stress,
    vector_exhaustion, vfio,
};
use vfio_irq_engine::sim::IrqCaps;

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
        #[command(flatten)]
        expected: Expected,
        #[command(flatten)]
        choice: Choice,
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
    /// Sequences of requests, interrupts and resets, compared with the model of the contract.
    Differential {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        expected: Expected,
        /// How many requests, at least.
        #[arg(long, default_value_t = 10_000)]
        requests: u64,
        /// Which sequences.
        #[arg(long, default_value_t = 1)]
        seed: u64,
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
    /// Every allocation of a request failed in turn, on a kernel with fault injection.
    Faults {
        /// Address of a device bound to a VFIO driver.
        #[arg(long)]
        bdf: String,
    },
    /// All that user space can do with a device, at once: what the kernel says of it matters.
    Storm {
        /// Address of a device bound to a VFIO driver.
        #[arg(long)]
        bdf: String,
        /// How long.
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        seconds: u64,
        /// Which requests.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// What holds while the machine has no interrupt left; one line each.
    Exhaustion {
        /// Address of an NVMe controller bound to a VFIO driver.
        #[arg(long)]
        bdf: String,
        /// Addresses of others, which together have more vectors than the machine; repeated.
        #[arg(long = "other", required = true)]
        others: Vec<String>,
        #[command(flatten)]
        expected: Expected,
        #[command(flatten)]
        choice: Choice,
    },
    /// What once went wrong in a driver, each in a process of its own; one line each.
    Regressions {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        choice: Choice,
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
    Instructions {
        /// Address of a device with 65 vectors of MSI-X.
        #[arg(long)]
        bdf: String,
        /// Address of an edu device, for the path of an interrupt.
        #[arg(long)]
        edu: Option<String>,
    },
    /// Measure what requests for one vector cost while 1, 2, 4, … vectors are active.
    Scaling {
        /// Address of a device with MSI-X.
        #[arg(long)]
        bdf: String,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct On {
    /// Address of a device bound to a VFIO driver.
    #[arg(long)]
    bdf: Option<String>,
    /// A vfio-user socket.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// The simulator.
    #[arg(long)]
    simulator: bool,
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
        Command::Cases { bdf, expected, choice, json } => {
            let _pinned = Pinned::new()?;
            let mut target = Kernel::new(&bdf, expected.core())?;
            Ok(try_all(cases::all(), &choice, json, |case| case.try_on(&mut target)))
        }
        Command::Answers { bdf, expected } => {
            let mut target = Kernel::new(&bdf, expected.core())?;
            println!("answers of the core in {:?} for {bdf}", target.core());
            for row in answers::table(&mut target)? {
                println!("{row}");
            }
            Ok(true)
        }
        Command::Compare { linux, ours } => print_comparison(&linux, &ours),
        Command::Differential { on, expected, requests, seed } => {
            println!("{}", run_differential(on, expected.core(), requests, seed)?);
            Ok(true)
        }
        Command::Atomicity { bdf, expected } => {
            let core = expected.core();
            let report = atomicity::run(&mut Kernel::new(&bdf, core)?)?;
            println!("{report}");
            Ok(core == Core::C || report.is_atomic())
        }
        Command::Stress { bdf, expected, requests, seed, kill_after, rounds } => {
            let plan = stress::Plan { bdf, core: expected.core(), requests, seed };
            let report = match kill_after {
                Some(after) => stress::kill(&plan, Duration::from_millis(after), rounds)?,
                None => stress::run(&plan)?,
            };
            println!("{report}");
            Ok(report.is_clean())
        }
        Command::Faults { bdf } => {
            let report = faults::run(&mut Kernel::new(&bdf, Core::Rust)?)?;
            println!("{report}");
            Ok(report.is_meaningful())
        }
        Command::Storm { bdf, seconds, seed } => {
            let time = Duration::from_secs(seconds);
            let report = storm::run(&storm::Plan { bdf, time, seed })?;
            println!("{report}");
            Ok(report.is_meaningful())
        }
        Command::Exhaustion { bdf, others, expected, choice } => {
            let _pinned = Pinned::new()?;
            let place = vector_exhaustion::Place { bdf, others, core: expected.core() };
            Ok(try_all(vector_exhaustion::ALL, &choice, false, |case| case.try_at(&place)))
        }
        Command::Regressions { at, choice } => {
            let place = at.into();
            Ok(try_all(regressions::all(), &choice, false, |case| case.try_apart(&place)))
        }
        Command::Regression { at, name } => {
            let one = regressions::all().find(|one| one.name == name);
            let unknown = || Error::Table(format!("no regression is called {name}"));
            println!("{}", one.ok_or_else(unknown)?.try_here(&at.into()));
            Ok(true)
        }
        Command::Instructions { bdf, edu } => print_instructions(&bdf, edu.as_deref()),
        Command::Scaling { bdf } => {
            for point in instructions::scaling::requests(&vfio::Opener::new(&bdf)?)? {
                println!("{}", point.json());
                println!("{point}");
            }
            Ok(true)
        }
    }
}

/// How the cases of a list are chosen and printed.
#[derive(Debug, clap::Args)]
struct Choice {
    /// Only those whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

/// Tries the chosen cases of a list and prints a line for each, of JSON if `json`. Returns true if
/// none failed.
fn try_all<F: 'static>(
    list: impl IntoIterator<Item = &'static Case<F>>,
    choice: &Choice,
    json: bool,
    mut try_one: impl FnMut(&Case<F>) -> Outcome,
) -> bool {
    let (mut passed, mut failed) = (0, Vec::new());
    for case in list.into_iter().filter(|case| case.name.contains(&choice.only)) {
        let (name, proves) = (case.name, case.proves.trim());
        let (verdict, why) = match try_one(case) {
            Outcome::Held => ("ok", proves.into()),
            Outcome::Broken(why) => ("FAIL", why),
            Outcome::NotApplicable(why) => ("n/a", why),
        };
        if json {
            let members = json!({ "case": name, "verdict": verdict, "proves": proves, "why": why });
            println!("{members}");
        } else {
            println!("{verdict:<4} {name:<38} {why}");
        }
        match verdict {
            "ok" => passed += 1,
            "FAIL" => failed.push((name, why)),
            _ => {}
        }
    }
    // Of a long list only the end may be kept, so the failures are printed again.
    for (name, why) in &failed {
        println!("failed: {name}: {why}");
    }
    println!("{passed} passed, {} failed", failed.len());
    failed.is_empty()
}

fn run_differential(on: On, core: Core, requests: u64, seed: u64) -> Result<Tally, Error> {
    let closed = on.socket.is_none();
    let mut target: Box<dyn Target> = match &on {
        On { bdf: Some(bdf), .. } => Box::new(Kernel::new(bdf, core)?),
        On { socket: Some(path), .. } => Box::new(Socket::new(path, Core::Rust, None)?),
        On { .. } => Box::new(Simulator::new(IrqCaps::default())),
    };
    // To open a real device takes a fifth of a second, because the kernel resets it.
    let steps = if on.simulator { 20..400 } else { 500..1500 };
    differential::run(target.as_mut(), &Plan { requests, seed, steps, closed })
}

fn print_comparison(linux: &Path, ours: &Path) -> Result<bool, Error> {
    let read = |path: &Path| compare::read(&fs_err::read_to_string(path)?);
    let comparison = compare::compare(&read(linux)?, &read(ours)?);
    for wrong in &comparison.wrong {
        println!("{wrong}");
    }
    let (rows, allowed, wrong) = (comparison.rows, comparison.allowed, comparison.wrong.len());
    println!("{rows} rows, {allowed} differ as they may, {wrong} differences");
    Ok(wrong == 0)
}

fn print_instructions(bdf: &str, edu: Option<&str>) -> Result<bool, Error> {
    let _pinned = Pinned::new()?;
    let mut figures = instructions::requests(&vfio::Opener::new(bdf)?)?;
    if let Some(edu) = edu {
        figures.extend(instructions::interrupt(&vfio::Opener::new(edu)?)?);
    }
    for figure in &figures {
        println!("{}", figure.json());
    }
    println!("{}", instructions::heading());
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
