//! Resets a guest of an unmodified QEMU under I/O. The guest shares no memory with the server.
//!
//! Without shared memory, each access of the device to the guest's memory is a message to QEMU.
//! At a reset, such messages are in flight in both directions.

use std::path::Path;

use fs_err as fs;
use sha2::{Digest, Sha256};

use super::guest::Guest;
use super::qmp::Monitor;
use super::server::{self, Server};
use crate::error::{Result, all_right};
use crate::guest_programs;
use crate::lab::cache::{Cache, remove_tree};
use crate::lab::image::Image;
use crate::lab::kernel::Series;
use crate::lab::run_dir::RunDir;
use crate::lab::start::{Started, at_most_twice};

/// Runs in the guest.
const GUEST: &str = include_str!("reset.sh");

/// Bytes of the area that is read, and of the area that is written.
const AREA: usize = 1 << 20;

/// Resets the guest `resets` times. Returns a remark.
pub fn check(cache: &Cache, series: Series, resets: usize) -> Result<Started<Vec<String>>> {
    let program = guest_programs::build_command()?;
    at_most_twice(|| run(cache, series, &program, resets))
}

fn run(cache: &Cache, series: Series, program: &Path, resets: usize) -> Result<Vec<String>> {
    let dir = RunDir::create(cache)?;
    let disk = dir.path().join("disk0");
    let content: Vec<u8> =
        (0..2 * AREA).map(|at| (at / 4096 + at % 251).to_le_bytes()[0]).collect();
    fs::write(&disk, &content)?;
    let sum: String =
        Sha256::digest(&content[..AREA]).iter().map(|byte| format!("{byte:02x}")).collect();
    let server = Server::start(program, dir.path(), &disk)?;
    let options = ["-m", "512M", "-qmp", "unix:/lab/run/qmp.sock,server=on,wait=off"];
    let mut guest = Guest::start(cache, series, &dir, &image(), &options)?;
    reset_under_load(&mut guest, &dir.path().join("qmp.sock"), &sum, resets)?;
    guest.finish()?;
    let log = server.stop()?;
    remove_tree(&disk)?;
    all_right(server::missing_counts(&log))?;
    Ok(vec![format!("{resets} resets")])
}

/// Waits until the guest reads and writes, and resets it. After the last reset, the guest ends its
/// work and checks the data it has read.
fn reset_under_load(guest: &mut Guest<'_>, qmp: &Path, sum: &str, resets: usize) -> Result<()> {
    let mut monitor = Monitor::connect(qmp)?;
    let sum = format!("sum {sum}");
    for nth in 0..=resets {
        for line in [&sum, "reading", "writing"] {
            wait_for(guest, line, &format!("after {nth} resets"))?;
        }
        if nth < resets {
            monitor.execute("system_reset")?;
        }
    }
    guest.answer()?;
    wait_for(guest, &sum, "at the end")?;
    // Each boot prints the sum once, and once more at the end.
    match guest.said.iter().filter(|line| line.starts_with("sum ")).count() {
        sums if sums == resets + 2 => Ok(()),
        sums => {
            let boots = sums - 1;
            Err(guest.failed(&format!("booted {boots} times for {resets} resets: it reset itself")))
        }
    }
}

/// Waits until the guest prints `wanted`.
fn wait_for(guest: &mut Guest<'_>, wanted: &str, when: &str) -> Result<()> {
    while let Some(line) = guest.line()? {
        if line.trim_end() == wanted {
            return Ok(());
        }
    }
    Err(guest.failed(&format!("ended {when} and did not say {wanted:?}")))
}

fn image() -> Image {
    Image {
        modules: vec!["nvme".to_owned()],
        command: format!("exec 2>&1\n{GUEST}"),
        variables: vec![("AREA".to_owned(), AREA.to_string())],
        ..Image::default()
    }
}
