//! Builds the test programs that run in guests, without dependencies on the guest.

use std::path::PathBuf;

use crate::checkout::{cargo, checkout};
use crate::error::{Error, Result};
use crate::lab::process::{Step, follow};

/// The program's name, on this machine and in the guest's PATH.
pub const PROGRAM: &str = "vfio-irq-conformance";

/// The client's tests and its small VMM, which are examples of its crate.
const CLIENT: [&str; 3] = ["vfio-irq-client", "vfio-irq-host-interrupts", "vfio-irq-vmm"];

/// The NVMe driver's test, which is an example of its crate.
const NVME: &str = "vfio-irq-nvme";

/// The command vfio-irq.
const COMMAND: &str = "vfio-irq";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the program, statically linked. Returns its path.
pub fn build() -> Result<PathBuf> {
    run_cargo(&["-p", PROGRAM])?;
    built(PROGRAM)
}

/// Builds the command, statically linked. Returns its path.
pub fn build_command() -> Result<PathBuf> {
    build_everything()?;
    built(COMMAND)
}

/// Builds every program that tests run in guests. Returns their paths.
pub fn build_all() -> Result<Vec<PathBuf>> {
    build_everything()?;
    let examples = CLIENT.iter().chain([&NVME]).map(|name| format!("examples/{name}"));
    let files = [PROGRAM, COMMAND].map(str::to_owned).into_iter().chain(examples);
    files.map(|file| built(&file)).collect()
}

/// Builds everything at once, so that shared crates are built once, with the features that any of
/// them needs.
fn build_everything() -> Result<()> {
    let mut what =
        vec!["-p", PROGRAM, "-p", "vfio-irq", "-p", "vfio-irq-nvme-driver", "-p", "vfio-irq-cli"];
    what.extend(["--features", "vfio-irq-nvme-driver/vfio-ioctls", "--bins", "--example", NVME]);
    what.extend(CLIENT.iter().flat_map(|name| ["--example", name]));
    run_cargo(&what)
}

fn target_dir() -> PathBuf {
    // A target directory of its own: other builds do not wait for this one.
    checkout().join("target/guest")
}

fn run_cargo(what: &[&str]) -> Result<()> {
    let mut command = cargo();
    command
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // No debugger runs in a guest, and a smaller image boots faster.
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
