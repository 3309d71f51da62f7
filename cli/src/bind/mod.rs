//! `vfio-irq bind`, `vfio-irq unbind`.

mod checks;
mod persist;
mod steps;

use crate::complete;
use crate::error::{Error, Obstacle};
use crate::pci::at_boot::{self, AtBoot};
use crate::pci::driver::driver;
use crate::pci::function::Function;
use crate::pci::{Bdf, System, modules, nodes, vfio};
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
    /// Bind it whenever the machine boots, too: by a rule of udev, which checks what this command checks
    /// (--force holds there as well), or by driverctl if that is installed, which checks nothing
    #[arg(long)]
    persist: bool,
    #[command(flatten)]
    how: How,
}

/// The options of `unbind`, which also ends what `--persist` began.
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
    /// The files in `/dev` by which it is opened, if a VFIO driver has it afterwards: its group's, and its
    /// character devices.
    nodes: Vec<String>,
    /// Arguments that hand it to a guest of QEMU, if a VFIO driver has it afterwards.
    qemu: Option<String>,
    /// What binds it when the machine boots, after the command.
    at_boot: Option<AtBoot>,
}

/// What is to become of a function.
struct Plan<'a> {
    function: &'a Function,
    /// The driver that is to have it; `None` for its own.
    wanted: Option<&'a str>,
    obstacles: Vec<Obstacle>,
    /// The steps after the driver has the function.
    last: Vec<Step>,
    how: &'a How,
}

/// Binds a function to a VFIO driver.
pub fn bind(system: &System, out: Out, options: &BindOptions) -> Result<(), Error> {
    let function = system.function(options.function.find(system)?)?;
    let (wanted, how) = (options.driver.as_str(), &options.how);
    let last = match options.persist {
        true => persist::keep(system, &function, wanted, how.force)?,
        false => Vec::new(),
    };
    let obstacles = match function.driver.as_deref() == Some(wanted) {
        // There is nothing to change, or a file to write.
        true if last.is_empty() => Vec::new(),
        true => Vec::from_iter(checks::privilege(system)),
        false => checks::before_bind(system, &function, wanted),
    };
    let wanted = Some(wanted);
    change(system, out, &Plan { function: &function, wanted, obstacles, last, how })
}

/// Gives a function back to its own driver, now and when the machine boots.
pub fn unbind(system: &System, out: Out, options: &UnbindOptions) -> Result<(), Error> {
    let function = system.function(options.function.find(system)?)?;
    let last = persist::forget(system, function.bdf);
    if !function.vfio && last.is_empty() {
        let has = function.driver.as_deref().unwrap_or("no driver");
        let what = format!("{} is not bound to a VFIO driver: {has} has it", function.bdf);
        return Err(Error::new(what, "there is nothing to give back"));
    }
    let obstacles = match function.vfio {
        true => checks::before_unbind(system, &function),
        false => Vec::from_iter(checks::privilege(system)),
    };
    let how = &options.how;
    change(system, out, &Plan { function: &function, wanted: None, obstacles, last, how })
}

fn change(system: &System, out: Out, plan: &Plan<'_>) -> Result<(), Error> {
    let Plan { function, wanted, how, .. } = *plan;
    let before = Before::of(system, function.bdf);
    let first = match wanted {
        Some(wanted) if function.driver.as_deref() == Some(wanted) => Vec::new(),
        None if !function.vfio => before.steps_home(system),
        _ => before.steps_to(system, wanted),
    };
    let steps = [first.as_slice(), &plan.last].concat();
    let left: Vec<_> = plan.obstacles.iter().filter(|o| !(o.forceable && how.force)).collect();
    if how.dry_run {
        tell(system, out, function, &steps, how)?;
    }
    if !left.is_empty() {
        let what = format!("{} is left as it is, because:", function.bdf);
        let obstacles = left.into_iter().cloned().collect();
        return Err(Error { obstacles, ..Error::plain(what) });
    }
    if how.dry_run {
        return Ok(());
    }
    let done = first.iter().try_for_each(take);
    let done = done.and_then(|()| verify(system, function.bdf, wanted));
    let done = done.and_then(|()| plan.last.iter().try_for_each(take));
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
    tell(system, out, function, &steps, how)
}

/// Checks that the driver has bound the function, or that no VFIO driver has.
fn verify(system: &System, bdf: Bdf, wanted: Option<&str>) -> Result<(), Error> {
    let now = driver(system, bdf);
    let Some(wanted) = wanted else {
        let Some(again) = now.filter(|now| vfio::is_driver(system, now)) else { return Ok(()) };
        let what =
            format!("{again} took {bdf} again: it has been told to take devices of this kind");
        let remedy = format!(
            "take the ID from /sys/bus/pci/drivers/{again} (remove_id), and `ids=` from /etc/modprobe.d and the \
             kernel's command line"
        );
        return Err(Error::new(what, remedy));
    };
    if now.as_deref() == Some(wanted) {
        return Ok(());
    }
    Err(Error::new(format!("{wanted} did not take {bdf}"), "the kernel's log (dmesg) says why"))
}

/// Says what has been done, or would be, and how user space gets the function.
fn tell(
    system: &System,
    out: Out,
    function: &Function,
    steps: &[Step],
    how: &How,
) -> Result<(), Error> {
    let (bdf, dry_run) = (function.bdf, how.dry_run);
    // After a step, the function is what the system says now.
    let now = Function::read(system, bdf).filter(|_| !dry_run);
    let handed = now.as_ref().filter(|now| now.vfio && now.driver.is_some());
    let is_bare = now.as_ref().is_some_and(|now| now.driver.is_none());
    let document = Document {
        bdf,
        before: function.driver.as_deref(),
        driver: now.as_ref().and_then(|now| now.driver.clone()),
        dry_run,
        steps,
        modules: if is_bare { modules::wanting(system, bdf) } else { Vec::new() },
        nodes: handed.map(|now| nodes::present(system, now)).unwrap_or_default(),
        qemu: handed.map(|_| format!("-device vfio-pci,host={bdf}")),
        at_boot: at_boot::of(system, bdf),
    };
    out.one(&document, || {
        if dry_run && !steps.is_empty() {
            let lines: Vec<String> = steps.iter().map(|step| format!("{step}\n")).collect();
            return lines.concat();
        }
        let mut text = summary(system, &document);
        if document.qemu.is_some() {
            text += &after(&document);
        } else if let Some(AtBoot { driver: Some(kept), file, .. }) = &document.at_boot {
            text += &format!("at boot: {kept} ({})\n", file.display());
        }
        text
    })
}

/// Formats the change of drivers.
fn summary(system: &System, document: &Document<'_>) -> String {
    let Document { bdf, before, driver, .. } = document;
    match (before, driver) {
        (Some(before), Some(now)) if before == now => format!("{bdf} is bound to {now} already\n"),
        (Some(before), None) if document.dry_run => format!("{bdf} is bound to {before} already\n"),
        (Some(before), Some(now)) => format!("{bdf}: {before} -> {now}\n"),
        (None, Some(now)) => format!("{bdf} -> {now}\n"),
        (_, None) => {
            format!("{bdf} has no driver now: {}\n", bare(system, *bdf, &document.modules))
        }
    }
}

/// Formats how user space opens the function, and how long that lasts.
fn after(document: &Document<'_>) -> String {
    let Document { bdf, driver, nodes, qemu, at_boot, .. } = document;
    let nodes = match nodes.is_empty() {
        true => "no file in /dev yet: `vfio-irq info` says what is missing".to_owned(),
        false => nodes.join(", "),
    };
    let lasts = match at_boot {
        Some(AtBoot { driver: Some(kept), file, .. }) if Some(kept) == driver.as_ref() => {
            format!("over restarts ({}), until `vfio-irq unbind {bdf}`", file.display())
        }
        Some(AtBoot { driver: Some(other), file, .. }) => {
            format!("until the machine restarts: then {} gives it to {other}", file.display())
        }
        _ => "until the machine restarts (with --persist, over restarts)".to_owned(),
    };
    let qemu = qemu.as_deref().unwrap_or_default();
    format!("  opened by  {nodes}\n  QEMU       {qemu}\n  lasts      {lasts}\n")
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
