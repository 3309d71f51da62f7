//! Keeps a binding over restarts of the machine, and ends that.

use super::steps::Step;
use crate::error::Error;
use crate::pci::at_boot::{self, Keeper};
use crate::pci::function::Function;
use crate::pci::{Bdf, System};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Returns the steps after which the machine binds a function to `driver` when it boots; none if it
/// does so already.
///
/// # Errors
///
/// If a rule of udev may not run this program.
pub fn keep(
    system: &System,
    function: &Function,
    driver: &str,
    force: bool,
) -> Result<Vec<Step>, Error> {
    let (bdf, keeper) = (function.bdf, Keeper::of(system));
    let (why, text) = match keeper {
        Keeper::Driverctl => ("driverctl binds it at boot", format!("{driver}\n")),
        Keeper::Udev => ("udev binds it at boot", rule(function, driver, force, &program(system)?)),
    };
    let file = system.path(keeper.file(bdf));
    let known = at_boot::all(system, bdf);
    let mut steps = Vec::new();
    if known.iter().all(|known| known.file != file || known.text != text) {
        steps.push(Step::file(why.to_owned(), file.clone(), Some(text)));
    }
    let others = known.into_iter().filter(|known| known.file != file);
    steps.extend(others.map(|other| remove(other.file)));
    Ok(steps)
}

/// Returns the steps after which nothing binds a function when the machine boots.
pub fn forget(system: &System, bdf: Bdf) -> Vec<Step> {
    at_boot::all(system, bdf).into_iter().map(|known| remove(known.file)).collect()
}

/// Returns the step that removes a file.
fn remove(file: PathBuf) -> Step {
    Step::file("nothing binds it at boot any more".to_owned(), file, None)
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

/// Returns the path of this program, which root runs at each boot.
fn program(system: &System) -> Result<String, Error> {
    let path = std::env::current_exe()
        .map_err(|error| Error::plain(format!("the path of this program is unknown: {error}")))?;
    let remedy =
        "install the package, or copy this program to /usr/local/bin and run it from there";
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    let Some(text) = path.to_str().filter(|path| path.chars().all(plain)) else {
        return Err(Error::new(format!("a rule of udev cannot name {}", path.display()), remedy));
    };
    // A tree of files that a test made has no boot.
    if let Some(weak) = changeable(&path, 0).filter(|_| system.is_real()) {
        let what = format!(
            "{text} cannot run as root at each boot: not only root can change {}",
            weak.display()
        );
        return Err(Error::new(what, remedy));
    }
    Ok(text.to_owned())
}

/// Returns the file, or the directory above it, that a user other than `owner` can change.
fn changeable(path: &Path, owner: u32) -> Option<&Path> {
    path.ancestors().find(|place| {
        let safe = |meta: std::fs::Metadata| meta.uid() == owner && meta.mode() & 0o022 == 0;
        !std::fs::metadata(place).is_ok_and(safe)
    })
}

#[cfg(test)]
mod tests {
    use super::changeable;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    #[test]
    fn a_program_that_others_can_change_is_found() {
        let root = tempfile::tempdir().unwrap();
        let (dir, program) = (root.path().join("bin"), root.path().join("bin/vfio-irq"));
        fs::create_dir(&dir).unwrap();
        fs::write(&program, "").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        set(&dir, 0o755);
        set(&program, 0o755);
        let owner = fs::metadata(&program).unwrap().uid();
        // Above are directories of the machine, such as /tmp.
        let found = |owner| changeable(&program, owner).filter(|at| at.starts_with(root.path()));
        assert_eq!(found(owner), None);
        assert_eq!(found(owner + 1), Some(program.as_path()));
        set(&dir, 0o775);
        assert_eq!(found(owner), Some(dir.as_path()));
        set(&program, 0o757);
        assert_eq!(found(owner), Some(program.as_path()));
    }
}
