//! `vfio-irq bind`, `vfio-irq unbind`.

mod checks;
mod steps;

use crate::complete;
use crate::error::{Error, Obstacle};
use crate::pci::Bdf;
use crate::pci::driver::driver;
use crate::pci::function::Function;
use crate::pci::{System, modules, vfio};
use crate::report::Out;
use crate::target::FunctionName;
use clap_complete::engine::ArgValueCompleter;
use schemars::JsonSchema;
use serde::Serialize;
use steps::{Before, Step, take};

/// The options of `bind`.
#[derive(clap::Args)]
pub struct BindOptions {
    /// The function: its address, or the name of a device of it (eth0, nvme0)
    #[arg(value_name = "BDF", add = ArgValueCompleter::new(complete::functions))]
    function: FunctionName,
    /// The driver that gets it, a VFIO PCI driver that is loaded
    #[arg(long, value_name = "NAME", default_value = vfio::DRIVER, value_parser = driver_name, add = ArgValueCompleter::new(complete::drivers))]
    driver: String,
    #[command(flatten)]
    how: How,
}

/// The options of `unbind`.
#[derive(clap::Args)]
pub struct UnbindOptions {
    /// The function: its address, or the name of a device of it (eth0, nvme0)
    #[arg(value_name = "BDF", add = ArgValueCompleter::new(complete::functions))]
    function: FunctionName,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
struct How {
    /// Say what would be done, and what is in the way
    #[arg(long)]
    dry_run: bool,
    /// Go on in spite of what can be forced
    #[arg(long)]
    force: bool,
}

/// Parses the name of a driver, which becomes part of paths.
fn driver_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || !text.chars().all(is_plain) {
        return Err(format!("{text:?} is no name of a VFIO PCI driver: {} would be", vfio::DRIVER));
    }
    Ok(text.to_owned())
}

/// What `bind --json` and `unbind --json` print.
#[derive(Serialize, JsonSchema)]
pub struct Document<'a> {
    /// The function.
    bdf: Bdf,
    /// The driver before the command.
    before: Option<&'a str>,
    /// The driver after the command.
    driver: Option<String>,
    /// Whether the command changed nothing (`--dry-run`).
    dry_run: bool,
    /// The steps that were done, or would be.
    steps: &'a [Step],
    /// Modules that match the function, if it has no driver afterwards.
    modules: Vec<String>,
}

/// Binds a function to a VFIO driver.
pub fn bind(system: &System, out: Out, options: &BindOptions) -> Result<(), Error> {
    let function = system.function(options.function.find(system)?)?;
    let wanted = options.driver.as_str();
    if function.driver.as_deref() == Some(wanted) {
        return tell(system, out, &function, Some(wanted.to_owned()), &[], &options.how);
    }
    let obstacles = checks::before_bind(system, &function, wanted);
    change(system, out, &function, Some(wanted), obstacles, &options.how)
}

/// Gives a function back to its own driver.
pub fn unbind(system: &System, out: Out, options: &UnbindOptions) -> Result<(), Error> {
    let function = system.function(options.function.find(system)?)?;
    if !function.vfio {
        let has = function.driver.as_deref().unwrap_or("no driver");
        let what = format!("{} is not bound to a VFIO driver: {has} has it", function.bdf);
        return Err(Error::new(what, "there is nothing to give back"));
    }
    let obstacles = checks::before_unbind(system, &function);
    change(system, out, &function, None, obstacles, &options.how)
}

fn change(
    system: &System,
    out: Out,
    function: &Function,
    wanted: Option<&str>,
    obstacles: Vec<Obstacle>,
    how: &How,
) -> Result<(), Error> {
    let before = Before::of(system, function.bdf);
    let steps = before.steps_to(system, wanted);
    let left: Vec<_> = obstacles.into_iter().filter(|o| !(o.forceable && how.force)).collect();
    if how.dry_run {
        tell(system, out, function, None, &steps, how)?;
    }
    if !left.is_empty() {
        let what = format!("{} is left as it is, because:", function.bdf);
        return Err(Error { obstacles: left, ..Error::plain(what) });
    }
    if how.dry_run {
        return Ok(());
    }
    let done = steps.iter().try_for_each(take).and_then(|()| verify(system, function.bdf, wanted));
    if let Err(error) = done {
        return Err(match before.restore(system) {
            Ok(()) => Error { what: format!("{} (all is as it was)", error.what), ..error },
            Err(worse) => Error::new(
                format!(
                    "{}; and what was there before could not be brought back: {}",
                    error.what, worse.what
                ),
                "the kernel's log (dmesg) says more",
            ),
        });
    }
    tell(system, out, function, driver(system, function.bdf), &steps, how)
}

/// Checks that the driver has bound the function.
fn verify(system: &System, bdf: Bdf, wanted: Option<&str>) -> Result<(), Error> {
    let now = driver(system, bdf);
    let Some(wanted) = wanted else { return Ok(()) };
    if now.as_deref() == Some(wanted) {
        return Ok(());
    }
    Err(Error::new(format!("{wanted} did not take {bdf}"), "the kernel's log (dmesg) says why"))
}

fn tell(
    system: &System,
    out: Out,
    function: &Function,
    now: Option<String>,
    steps: &[Step],
    how: &How,
) -> Result<(), Error> {
    let (bdf, before) = (function.bdf, function.driver.as_deref());
    let dry_run = how.dry_run;
    let is_bare = now.is_none() && !dry_run;
    let modules = if is_bare { modules::wanting(system, bdf) } else { Vec::new() };
    let bare = || bare(system, bdf, &modules);
    let document =
        Document { bdf, before, driver: now.clone(), dry_run, steps, modules: modules.clone() };
    out.one(&document, || {
        if how.dry_run && !steps.is_empty() {
            let lines: Vec<String> = steps.iter().map(|step| format!("{step}\n")).collect();
            return lines.concat();
        }
        match (before, &now) {
            _ if steps.is_empty() => {
                format!("{bdf} is bound to {} already\n", before.unwrap_or("it"))
            }
            (Some(before), Some(now)) => format!("{bdf}: {before} -> {now}\n"),
            (None, Some(now)) => format!("{bdf} -> {now}\n"),
            (_, None) => format!("{bdf} has no driver now: {}\n", bare()),
        }
    })
}

/// Returns why a function has no driver, and what would load the driver.
fn bare(system: &System, bdf: Bdf, modules: &[String]) -> String {
    let (loaded, missing): (Vec<&String>, Vec<&String>) =
        modules.iter().partition(|module| modules::is_loaded(system, module));
    match (missing.first(), loaded.first()) {
        (Some(module), _) => {
            format!("the module {module} is not loaded; `modprobe {module}` brings the driver")
        }
        (None, Some(module)) => {
            format!("the driver of {module} did not take it; the kernel's log (dmesg) says why")
        }
        (None, None) => {
            let alias = system.text(bdf.directory().join("modalias"));
            let alias = alias.unwrap_or_else(|| "it".to_owned());
            format!("no module of this kernel is for {alias}")
        }
    }
}
