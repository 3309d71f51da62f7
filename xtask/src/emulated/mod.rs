//! Tests a guest of an unmodified QEMU with a disk that `vfio-irq serve nvme` emulates. The disk is
//! written, read, and read again after a reboot. The interrupts are counted on both sides, and
//! nvme-cli reads the controller's health.

use fs_err::File;

use crate::error::{Result, all_right};
use crate::guest_programs;
use crate::lab::cache::{Cache, remove_tree};
use crate::lab::kernel::Series;
use crate::lab::run_dir::RunDir;
use crate::lab::start::Started;

mod boot;
pub mod guest;
mod health;
mod interrupts;
mod qmp;
pub mod reset;
pub mod server;

use boot::{Boot, boot};
use server::Server;

/// Bytes of the raw area that is written.
const AREA: u64 = 256 << 20;

/// Bytes of the disk: a file system follows the raw area.
const DISK: u64 = AREA + (64 << 20);

/// Processors of the guest.
const CPUS: u32 = 2;

/// Blocks that each processor reads one by one.
const READS: u64 = 200;

/// Boots twice. Returns the failures as the error.
pub fn check(cache: &Cache, series: Series) -> Result<Started<Vec<String>>> {
    let program = guest_programs::build_command()?;
    let dir = RunDir::create(cache)?;
    let disk = dir.path().join("disk0");
    File::create(&disk)?.set_len(DISK)?;
    let server = Server::start(&program, dir.path(), &disk)?;
    let first = boot(cache, series, &dir, &server, "first")?;
    let second = boot(cache, series, &dir, &server, "second")?;
    let log = server.stop()?;
    remove_tree(&disk)?;
    let twice = first.twice || second.twice;
    let (first, second) = (first.value, second.value);
    let mut failures = judge_data(&first, &second);
    for boot in [&first, &second] {
        failures.extend(interrupts::judge(boot));
        failures.extend(health::judge(boot));
    }
    failures.extend(server::missing_counts(&log));
    all_right(failures)?;
    Ok(Started { value: Vec::new(), twice })
}

/// Checks that the written data is present, before and after a reboot.
fn judge_data(first: &Boot, second: &Boot) -> Vec<String> {
    let mut failures = Vec::new();
    let mut same = |what: &str, one: Vec<&str>, other: Vec<&str>| {
        if one.is_empty() || one != other {
            failures.push(format!("{what}: {one:?} and {other:?}"));
        }
    };
    same("what was written and what was read", first.lines("wrote"), first.lines("sum"));
    same("what was read before and after the reboot", first.lines("sum"), second.lines("sum"));
    same("a file before and after a mount", first.lines("file"), first.lines("again"));
    same("a file before and after the reboot", first.lines("file"), second.lines("again"));
    failures
}
