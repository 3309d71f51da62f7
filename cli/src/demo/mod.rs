//! `vfio-irq demo`: queues at work, one more after the other, with the vectors added the old way and
//! the new way.

mod load;
mod machine;
mod picture;
mod record;
mod words;

use crate::error::Error;
use crate::report::Out;
use crate::target::Bdf;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use load::Load;
use machine::Machine;
use record::{Lane, Run};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is shown.
#[derive(clap::Args)]
pub struct Options {
    /// Use this NVMe controller, bound to a VFIO driver, instead of an emulated one; it is only read
    #[arg(long, value_name = "BDF")]
    device: Option<Bdf>,
    /// Queues that are added, one after the other
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=1024))]
    queues: u16,
    /// Milliseconds between two queues
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    interval: u64,
    /// Add vectors this way; once for each, both if not given
    #[arg(long = "method", value_name = "METHOD", value_enum)]
    methods: Vec<Method>,
    /// Where the picture goes
    #[arg(long, value_name = "FILE", default_value = "vfio-irq-demo.svg")]
    picture: PathBuf,
    /// Open the picture
    #[arg(long)]
    open: bool,
}

/// How a vector is added while others are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ValueEnum)]
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

    fn of_driver(self) -> vfio_irq_nvme::driver::Method {
        match self {
            Self::ReleaseAll => vfio_irq_nvme::driver::Method::ReleaseAll,
            Self::Dynamic => vfio_irq_nvme::driver::Method::default(),
        }
    }
}

/// Everything that `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    device: String,
    /// None when it could not be written.
    picture: Option<&'a Path>,
    runs: Vec<&'a Run>,
}

/// Runs each method, shows both, and fails when the new way lost anything.
pub fn run(out: Out, options: &Options) -> Result<(), Error> {
    let methods = match options.methods.as_slice() {
        [] => &[Method::ReleaseAll, Method::Dynamic],
        some => some,
    };
    let canvas = picture::Canvas::prepare(&options.picture)?;
    let mut name = String::new();
    let mut all: Vec<(Run, Vec<Lane>)> = Vec::new();
    for method in methods {
        let machine = Machine::start(options.device, options.queues, *method)?;
        name = machine.name.clone();
        let bar = progress(out, *method, options.queues);
        let load = Load {
            method: *method,
            queues: options.queues,
            interval: Duration::from_millis(options.interval),
        };
        let done = load.run(&machine, &bar);
        bar.finish();
        all.push(done?);
    }
    // What was counted is told in any case.
    let drawn = canvas.draw(&all);
    let runs: Vec<&Run> = all.iter().map(|(run, _)| run).collect();
    let picture = drawn.is_ok().then_some(options.picture.as_path());
    let document = Document { device: name, picture, runs };
    out.one(&document, || words::tell(&document))?;
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

fn progress(out: Out, method: Method, queues: u16) -> ProgressBar {
    if out.json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(queues.into()).with_prefix(method.name());
    let style = ProgressStyle::with_template("{prefix:11} {bar:32} {pos:>4}/{len} queues  {msg}");
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
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
