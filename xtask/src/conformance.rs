//! The test programs that run in guests: built so that they need nothing from them.

use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, Result};
use crate::lab::process::{Step, follow};
use crate::module::checkout;

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
    build_one(&["-p", PROGRAM], PROGRAM)
}

/// Builds everything that tests run in guests.
pub fn build_all() -> Result<Vec<PathBuf>> {
    let mut programs = vec![build()?];
    for name in CLIENT {
        let what = ["-p", "vfio-irq", "--example", name];
        programs.push(build_one(&what, &format!("examples/{name}"))?);
    }
    let what = ["-p", "vfio-irq-nvme", "--features", "vfio-ioctls", "--example", NVME];
    programs.push(build_one(&what, &format!("examples/{NVME}"))?);
    programs.push(build_one(&["-p", "vfio-irq-cli"], COMMAND)?);
    Ok(programs)
}

fn build_one(what: &[&str], file: &str) -> Result<PathBuf> {
    // A directory of its own: other flags would otherwise build everything anew each time.
    let dir = checkout().join("target/guest");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(checkout())
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
        .args(["build", "--release", "--target", TARGET])
        .args(what)
        .arg("--target-dir")
        .arg(&dir);
    let step = Step::start("Building the test program for guests", None);
    follow(command, "building the test program with cargo", |line| step.note(line))?;
    let program = dir.join(TARGET).join("release").join(file);
    if program.is_file() {
        Ok(program)
    } else {
        Err(Error::other(format!("cargo built no {}", program.display())))
    }
}
