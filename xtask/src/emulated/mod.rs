//! A guest of an unmodified QEMU on this machine, with a disk that `vfio-irq serve nvme` emulates:
//! written, read back, read again after a reboot, and its interrupts counted on both sides.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::conformance;
use crate::error::{Error, Result, last_lines};
use crate::lab::cache::{Cache, remove_tree};
use crate::lab::guest::{Report, attend, run_dir};
use crate::lab::image::Image;
use crate::lab::kernel::{Kernel, Series};
use crate::lab::root;
use crate::lab::sandbox::Sandbox;
use crate::log;

mod server;

use server::{COUNTED, Server};

/// Runs in the guest.
const GUEST: &str = include_str!("guest.sh");

/// Bytes that are written raw.
const AREA: u64 = 256 << 20;

/// Bytes of the disk: there is a file system behind the raw area.
const DISK: u64 = AREA + (64 << 20);

/// Processors of the guest.
const CPUS: u32 = 2;

/// How long one boot may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What one boot of the guest said, by the first word of each line.
struct Boot {
    output: String,
    /// What the server counted for it: signals by vector.
    signals: BTreeMap<u32, u64>,
    /// QEMU's trace of MSI-X.
    trace: String,
}

impl Boot {
    /// The lines that begin with `word`, without it.
    fn lines(&self, word: &str) -> Vec<&str> {
        let rest = |line: &'_ str| -> Option<usize> {
            line.strip_prefix(word).filter(|rest| rest.starts_with(' ')).map(|rest| rest.len() - 1)
        };
        self.output
            .lines()
            .filter_map(|line| rest(line).map(|len| &line[line.len() - len..]))
            .collect()
    }

    /// Queue, vector and count of each interrupt as the guest saw them.
    fn interrupts(&self) -> Vec<(u32, u32, u64)> {
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
        let line = |line: &&str| {
            let mut words = line.split_whitespace();
            let (queue, vector) = (number(words.next())?, number(words.next())?);
            let small = |number| u32::try_from(number).ok();
            Some((small(queue)?, small(vector)?, number(words.next())?))
        };
        self.lines("interrupts").iter().filter_map(line).collect()
    }
}

/// Boots twice; what was not as it should be, in words.
pub fn check(cache: &Cache, series: Series) -> Result<Vec<String>> {
    let program = conformance::build_command()?;
    let (dir, _lock) = run_dir(cache)?;
    let disk = dir.join("disk0");
    let file = File::create(&disk).map_err(Error::io("create", &disk))?;
    file.set_len(DISK).map_err(Error::io("extend", &disk))?;
    drop(file);
    let server = Server::start(&program, &dir, &disk)?;
    let first = boot(cache, series, &dir, &server, "first")?;
    let second = boot(cache, series, &dir, &server, "second")?;
    let log = server.stop()?;
    remove_tree(&disk)?;
    let mut failures = judge(&first, &second);
    if !log.contains("in all: ") {
        failures.push(format!("the server did not say what it counted in all:\n{log}"));
    }
    Ok(failures)
}

fn judge(first: &Boot, second: &Boot) -> Vec<String> {
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
    for boot in [first, second] {
        failures.extend(judge_interrupts(boot));
    }
    failures
}

/// As many queues as processors, each with a vector of its own, and both sides count alike.
fn judge_interrupts(boot: &Boot) -> Vec<String> {
    let mut failures = Vec::new();
    let seen = boot.interrupts();
    let shown = |line: &&str| line.contains("nvme0q") || line.contains("CPU0");
    boot.output.lines().filter(shown).for_each(|line| println!("  {line}"));
    let (queues, wanted) = (boot.lines("queues"), format!("{CPUS} of {CPUS}"));
    if queues != [wanted.as_str()] {
        failures.push(format!("the guest has queues for its processors: {queues:?}"));
    }
    if !boot.trace.contains("noresize 0") {
        failures.push("QEMU does not know that vectors can be added at any time".to_owned());
    }
    for id in 0..=CPUS {
        if !boot.trace.contains(&format!("vector {id} used")) {
            failures.push(format!("QEMU did not add vector {id} when the guest began to use it"));
        }
        let Some((_, vector, count)) = seen.iter().find(|(queue, ..)| *queue == id) else {
            failures.push(format!("queue {id} has no interrupt in the guest"));
            continue;
        };
        let raised = boot.signals.get(vector).copied().unwrap_or(0);
        println!("  queue {id}, vector {vector}: raised {raised}, seen {count}");
        if *vector != id {
            failures.push(format!("queue {id} has vector {vector}"));
        }
        // The guest's shutdown uses the admin queue after it has counted. Elsewhere signals that come
        // while one is on its way are one: a few more may be raised than seen, never fewer.
        let merged = raised.saturating_sub(*count) * 20 > raised && id != 0;
        if *count == 0 || *count > raised || merged {
            failures.push(format!("vector {vector}: raised {raised} times, seen {count} times"));
        }
    }
    failures
}

fn boot(cache: &Cache, series: Series, dir: &Path, server: &Server, step: &str) -> Result<Boot> {
    let root = root::Kind::Trixie.obtain(cache)?;
    let kernel = Kernel::obtain(cache, series)?;
    let image = Image {
        modules: ["nvme", "ext4", "loop"].map(str::to_owned).to_vec(),
        command: format!("exec 2>&1\n{GUEST}"),
        variables: vec![
            ("STEP".to_owned(), step.to_owned()),
            ("AREA".to_owned(), AREA.to_string()),
        ],
        ..Image::default()
    };
    let initrd = dir.join("initrd");
    fs::write(&initrd, image.build(root.path(), &kernel)?).map_err(Error::io("write", &initrd))?;
    let sandbox = Sandbox::new(root.path()).bind(kernel.dir(), "lab/kernel").bind(dir, "lab/run");
    let mut command = sandbox.command("qemu-system-x86_64");
    command.args(arguments());
    let errors = dir.join("qemu.log");
    let log = File::create(&errors).map_err(Error::io("create", &errors))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let before = server.said().len();
    let mut child = command.spawn().map_err(|e| Error::other(format!("cannot start QEMU: {e}")))?;
    let (output, in_time) = attend(&mut child, false, PATIENCE);
    let status = child.wait().map_err(|e| Error::other(format!("cannot wait for QEMU: {e}")))?;
    remove_tree(&initrd)?;
    let report = Report::read(dir);
    let said = server.said_of_client(before);
    if !in_time || report.end != "exit 0" {
        return Err(Error::other(format!(
            "the guest ended with {:?} (QEMU: {status}, in time: {in_time}).\nIt said:\n{}\nIts console: {}\nQEMU: {}\nThe server:\n{said}",
            report.end,
            last_lines(&output, 20),
            dir.join("console.log").display(),
            last_lines(&report.errors, 10),
        )));
    }
    let (alarms, _) = log::judge(&report.log);
    if !alarms.is_empty() {
        return Err(Error::other(format!("the guest's kernel said:\n{}", alarms.join("\n"))));
    }
    Ok(Boot { output, signals: signals(&said), trace: report.errors })
}

/// What the server says of a client that has left: `… interrupts 0:31 1:5012`.
fn signals(said: &str) -> BTreeMap<u32, u64> {
    let line = said.lines().rev().find(|line| line.contains(COUNTED));
    let list = line.and_then(|line| line.split_once("; interrupts")).map_or("", |(_, list)| list);
    let pair = |word: &str| {
        let (vector, count) = word.split_once(':')?;
        Some((vector.parse().ok()?, count.parse().ok()?))
    };
    list.split_whitespace().filter_map(pair).collect()
}

fn arguments() -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| list.extend(words.iter().map(|&word| word.to_owned()));
    let cpus = CPUS.to_string();
    add(&["-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", &cpus]);
    add(&["-m", "1G", "-object", "memory-backend-memfd,id=mem,size=1G,share=on"]);
    add(&["-machine", "memory-backend=mem"]);
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    add(&["-kernel", "/lab/kernel/vmlinuz", "-initrd", "/lab/run/initrd"]);
    add(&["-append", "console=ttyS0 loglevel=5 panic=-1 oops=panic no_timer_check"]);
    add(&["-chardev", "stdio,id=command,signal=off", "-serial", "file:/lab/run/console.log"]);
    add(&["-serial", "chardev:command", "-serial", "file:/lab/run/report"]);
    add(&["-trace", "vfio_msix_early_setup", "-trace", "vfio_msix_vector_do_use"]);
    add(&[
        "-device",
        r#"{"driver":"vfio-user-pci","socket":{"path":"/lab/run/nvme.sock","type":"unix"}}"#,
    ]);
    list
}

#[cfg(test)]
mod tests {
    use super::signals;

    #[test]
    fn the_servers_counts_are_read() {
        let said = "INFO x: this client: 3 reads of 8 blocks; interrupts 0:31 1:5012\nINFO y\n";
        let counts = signals(said);
        assert_eq!(counts.get(&0), Some(&31));
        assert_eq!(counts.get(&1), Some(&5012));
        assert!(signals("").is_empty());
    }
}
