//! `vfio-irq demo`: queues that work while more are added one by one, with the vectors added the
//! old way and the new way.

mod load;
mod machine;
mod picture;
mod progress;
mod record;
mod words;

use crate::complete;
use crate::error::Error;
use crate::info::VfToken;
use crate::pci::System;
use crate::report::Out;
use crate::stop::Stop;
use crate::target::FunctionName;
use clap::ValueEnum;
use clap_complete::engine::ArgValueCompleter;
use load::Load;
use machine::Machine;
use progress::Progress;
use record::{Lane, Run};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The options of `demo`.
#[derive(clap::Args)]
pub struct Options {
    /// Use this NVMe controller, bound to a VFIO driver, instead of an emulated one; it is only read
    #[arg(long, value_name = "BDF", add = ArgValueCompleter::new(complete::functions))]
    device: Option<FunctionName>,
    #[command(flatten)]
    token: VfToken,
    /// Queues that are added, one after the other
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=1024))]
    queues: u16,
    /// Milliseconds between two queues
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    interval: u64,
    /// Add vectors this way; once for each, both if not given
    #[arg(long = "method", value_name = "METHOD", value_enum)]
    methods: Vec<Method>,
    /// Where the picture goes; - for standard output, where the table goes to standard error
    #[arg(long, value_name = "FILE", default_value = "vfio-irq-demo.svg")]
    picture: PathBuf,
    /// Open the picture
    #[arg(long)]
    open: bool,
}

/// How a vector is added while others are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ValueEnum, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Disable MSI-X, then enable the old vectors and the new one: what VMMs did
    ReleaseAll,
    /// Add the one vector
    Dynamic,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::ReleaseAll => "release-all",
            Self::Dynamic => "dynamic",
        }
    }

    fn of_driver(self) -> vfio_irq_nvme_driver::Method {
        match self {
            Self::ReleaseAll => vfio_irq_nvme_driver::Method::ReleaseAll,
            Self::Dynamic => vfio_irq_nvme_driver::Method::default(),
        }
    }
}

/// How the raised interrupts are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Counted {
    /// The device counts its interrupts.
    #[default]
    ByDevice,
    /// The device does not count. It owes one interrupt for each completion, because a queue has
    /// one command outstanding.
    ByCompletion,
}

/// What `demo --json` prints.
#[derive(Serialize, JsonSchema)]
pub struct Document<'a> {
    /// The device.
    device: String,
    /// How the raised interrupts are counted.
    counted: Counted,
    /// Path of the picture; none if it could not be written.
    picture: Option<&'a Path>,
    /// The run of each method.
    runs: Vec<&'a Run>,
}

/// Runs each method, shows both, and fails if the new way lost an interrupt.
pub fn run(system: &System, out: Out, options: &Options) -> Result<(), Error> {
    let methods = match options.methods.as_slice() {
        [] => &[Method::ReleaseAll, Method::Dynamic],
        some => some,
    };
    let is_printed = options.picture == Path::new(picture::STDOUT);
    if is_printed && (out.json || options.open) {
        let other = if out.json { "--json" } else { "--open" };
        let what = format!("--picture - and {other} do not go together");
        return Err(Error::new(what, "--picture FILE names a place").misunderstood());
    }
    if options.device.is_none() {
        options.token.none(&"the emulated controller")?;
    }
    let stop = Stop::prepare()?;
    make_room(options.queues)?;
    let canvas = picture::Canvas::prepare(&options.picture)?;
    let (mut name, mut counted) = (String::new(), Counted::default());
    let mut all: Vec<(Run, Vec<Lane>)> = Vec::new();
    for method in methods {
        let machine = Machine::start(system, options, *method)?;
        name = machine.name.clone();
        counted = machine.counted();
        let progress = Progress::start(out, *method, options.queues);
        let load = Load {
            method: *method,
            queues: options.queues,
            interval: Duration::from_millis(options.interval),
        };
        let done = load.run(&machine, &progress, &stop);
        progress.end(done.as_ref().ok().map(|(run, _)| run));
        drop(machine);
        stop.obey();
        all.push(done?);
    }
    // The counts are printed even if the picture fails.
    let drawn = canvas.draw(&all);
    let runs: Vec<&Run> = all.iter().map(|(run, _)| run).collect();
    let picture = drawn.is_ok().then_some(options.picture.as_path()).filter(|_| !is_printed);
    let document = Document { device: name, counted, picture, runs };
    if is_printed {
        crate::write_error(&words::tell(&document));
    } else {
        out.one(&document, || words::tell(&document))?;
    }
    if let (true, Some(picture)) = (options.open, picture) {
        open(picture)?;
    }
    match document.runs.iter().find(|run| run.method == Method::Dynamic && run.lost > 0) {
        Some(Run { lost, .. }) => Err(Error::new(
            format!("{lost} interrupts were lost although each vector was added by itself"),
            "this is a bug of the driver, the device or this program: please report it",
        )),
        None => drawn,
    }
}

/// Descriptors that a queue needs, including those of the emulated controller and of the program.
const EACH: u64 = 4;
const BASE: u64 = 64;

/// Raises the limit of descriptors to the number that so many queues need. The soft limit of a
/// process is usually below the hard limit.
fn make_room(queues: u16) -> Result<(), Error> {
    let need = BASE + EACH * u64::from(queues);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= need) {
        return Ok(());
    }
    if let Some(most) = maximum.filter(|most| *most < need) {
        let what =
            format!("{queues} queues take {need} descriptors, and a process may have {most}");
        let fewer = match most.saturating_sub(BASE) / EACH {
            0 => String::new(),
            queues => format!("say --queues {queues}, or "),
        };
        return Err(Error::new(what, fewer + "raise the limit (ulimit -Hn)"));
    }
    let wanted = Rlimit { current: Some(need), maximum };
    setrlimit(Resource::Nofile, wanted)
        .map_err(|error| Error::plain(format!("{need} descriptors cannot be had: {error}")))
}

fn open(path: &Path) -> Result<(), Error> {
    let failed = |why: String| {
        Error::new(
            format!("cannot open {}: {why}", path.display()),
            "look at it with a program of yours",
        )
    };
    let status = std::process::Command::new("xdg-open").arg(path).status();
    match status.map_err(|error| failed(format!("xdg-open: {error}")))? {
        status if status.success() => Ok(()),
        status => Err(failed(format!("xdg-open ended with {status}"))),
    }
}
