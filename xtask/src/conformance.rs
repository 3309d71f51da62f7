//! The test program that runs in guests: built so that it needs nothing from them.

use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, Result};
use crate::lab::process::{Step, follow};
use crate::module::checkout;

/// Its name, on this machine and in the guest's PATH.
pub const PROGRAM: &str = "vfio-irq-conformance";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds it, statically linked, and says where it is.
pub fn build() -> Result<PathBuf> {
    // A directory of its own: other flags would otherwise build everything anew each time.
    let dir = checkout().join("target/guest");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(checkout())
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
        .args(["build", "--release", "--target", TARGET, "-p", PROGRAM, "--target-dir"])
        .arg(&dir);
    let step = Step::start("Building the test program for guests", None);
    follow(command, "building the test program with cargo", |line| step.note(line))?;
    let program = dir.join(TARGET).join("release").join(PROGRAM);
    if program.is_file() {
        Ok(program)
    } else {
        Err(Error::other(format!("cargo built no {}", program.display())))
    }
}
