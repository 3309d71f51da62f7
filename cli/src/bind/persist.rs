//! Keeps a binding over restarts of the machine, and ends that.

use super::steps::{Kind, Step};
use crate::error::Error;
use crate::pci::at_boot::{self, Keeper};
use crate::pci::function::Function;
use crate::pci::{Bdf, System};
use std::path::{Path, PathBuf};

/// Returns the steps after which the machine binds a function to `driver` when it boots; none if it
/// does so already.
///
/// # Errors
///
/// If a rule of udev cannot name this program.
pub fn keep(
    system: &System,
    function: &Function,
    driver: &str,
    force: bool,
) -> Result<Vec<Step>, Error> {
    let (bdf, keeper) = (function.bdf, Keeper::of(system));
    let (why, text) = match keeper {
        Keeper::Driverctl => ("driverctl binds it at boot", format!("{driver}\n")),
        Keeper::Udev => ("udev binds it at boot", rule(function, driver, force, &program()?)),
    };
    let file = system.path(keeper.file(bdf));
    let known = at_boot::all(system, bdf);
    let mut steps = Vec::new();
    if known.iter().all(|known| known.file != file || known.text != text) {
        let (why, value, file) = (why.to_owned(), Some(text), file.clone());
        steps.push(Step { why, file, value, kind: Kind::File });
    }
    let others = known.into_iter().filter(|known| known.file != file);
    steps.extend(others.map(|other| remove(other.file)));
    Ok(steps)
}

/// Returns the steps after which nothing binds a function when the machine boots.
pub fn forget(system: &System, bdf: Bdf) -> Vec<Step> {
    at_boot::all(system, bdf).into_iter().map(|known| remove(known.file)).collect()
}

fn remove(file: PathBuf) -> Step {
    let why = "nothing binds it at boot any more".to_owned();
    Step { why, file, value: None, kind: Kind::File }
}

/// Returns the rule of udev that binds a function when the kernel finds it.
///
/// The override keeps other drivers away from the start. The command does the rest, with the checks
/// of every bind: a driver in the initramfs may have had the function first, and the module may be
/// loaded already, so that it does not look for functions any more.
///
/// Debian copies rules into the initramfs, where a copy outlives the rule. There the command does not
/// exist, so that the copy matches nothing. Nor does the rule once the command is removed.
fn rule(function: &Function, driver: &str, force: bool, program: &str) -> String {
    let (bdf, (vendor, device)) = (function.bdf, function.ids);
    let force = if force { " --force" } else { "" };
    format!(
        r#"# Written by `vfio-irq bind --persist`. `vfio-irq unbind {bdf}` removes it.
ACTION=="add", SUBSYSTEM=="pci", KERNEL=="{bdf}", ATTR{{vendor}}=="{vendor:#06x}", ATTR{{device}}=="{device:#06x}", TEST=="{program}", ATTR{{driver_override}}="{driver}", RUN{{builtin}}+="kmod load {driver}", RUN{{program}}+="{program} bind{force} --driver {driver} {bdf}"
"#
    )
}

/// Returns the path of this program.
fn program() -> Result<String, Error> {
    let path = std::env::current_exe()
        .map_err(|error| Error::plain(format!("the path of this program is unknown: {error}")))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    path.to_str().filter(|path| path.chars().all(plain)).map(str::to_owned).ok_or_else(|| {
        let path: &Path = &path;
        let what = format!("a rule of udev cannot name {}", path.display());
        Error::new(what, "install this program where the path has letters, digits and /._+- only")
    })
}
