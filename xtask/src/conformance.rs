//! The test programs that run in guests: built so that they need nothing from them.

use std::path::PathBuf;
use std::process::Command;

use crate::core_module::checkout;
use crate::error::{Error, Result};
use crate::lab::process::{Step, follow};

/// Its name, on this machine and in the guest's PATH.
pub const PROGRAM: &str = "vfio-irq-conformance";

/// The client's tests, examples of its crate.
const CLIENT: [&str; 2] = ["vfio-irq-client", "vfio-irq-host-interrupts"];

/// The NVMe driver's, an example of its crate.
const NVME: &str = "vfio-irq-nvme";

/// The command for people.
const COMMAND: &str = "vfio-irq";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds it, statically linked, and says where it is.
pub fn build() -> Result<PathBuf> {
    run_cargo(&["-p", PROGRAM])?;
    built(PROGRAM)
}

/// Builds the command, statically linked as the others are, and says where it is.
pub fn build_command() -> Result<PathBuf> {
    build_everything()?;
    built(COMMAND)
}

/// Builds everything that tests run in guests.
pub fn build_all() -> Result<Vec<PathBuf>> {
    build_everything()?;
    let examples = CLIENT.iter().chain([&NVME]).map(|name| format!("examples/{name}"));
    let files = [PROGRAM, COMMAND].map(str::to_owned).into_iter().chain(examples);
    files.map(|file| built(&file)).collect()
}

/// All in one go: what they share is built once, with the features that any of them wants.
fn build_everything() -> Result<()> {
    let mut what =
        vec!["-p", PROGRAM, "-p", "vfio-irq", "-p", "vfio-irq-nvme", "-p", "vfio-irq-cli"];
    what.extend(["--features", "vfio-irq-nvme/vfio-ioctls", "--bins", "--example", NVME]);
    what.extend(CLIENT.iter().flat_map(|name| ["--example", name]));
    run_cargo(&what)
}

fn target_dir() -> PathBuf {
    // A directory of its own: whoever builds something else meanwhile does not wait.
    checkout().join("target/guest")
}

fn run_cargo(what: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(checkout())
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // No debugger comes there, and what is smaller boots sooner.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
        .args(["build", "--release", "--target", TARGET])
        .args(what)
        .arg("--target-dir")
        .arg(target_dir());
    let step = Step::start("Building the test programs for guests", None);
    follow(command, "building the test programs with cargo", |line| step.note(line))
}

fn built(file: &str) -> Result<PathBuf> {
    let program = target_dir().join(TARGET).join("release").join(file);
    if program.is_file() {
        Ok(program)
    } else {
        Err(Error::other(format!("cargo built no {}", program.display())))
    }
}
