//! Resets a guest of an unmodified QEMU under I/O. The guest shares no memory with the server.
//!
//! Without shared memory, each access of the device to the guest's memory is a message to QEMU.
//! At a reset, such messages are in flight in both directions.

use fs_err::{self as fs, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::boot::arguments;
use super::qmp::Monitor;
use super::server::Server;
use crate::conformance;
use crate::error::{Error, Result, last_lines};
use crate::lab::cache::{Cache, remove_tree};
use crate::lab::guest::{Report, run_dir};
use crate::lab::image::Image;
use crate::lab::kernel::{Kernel, Series};
use crate::lab::root;
use crate::lab::sandbox::Sandbox;
use crate::lab::start::{Started, at_most_twice};
use crate::log;

/// Runs in the guest.
const GUEST: &str = include_str!("reset.sh");

/// Bytes of the area that is read, and of the area that is written.
const AREA: usize = 1 << 20;

/// How long a guest may be silent, a boot included. The limit detects a hang; it is no measurement.
const SILENCE: Duration = Duration::from_secs(150);

/// Resets the guest `resets` times. Returns the failures in words.
pub fn check(cache: &Cache, series: Series, resets: usize) -> Result<Started<Vec<String>>> {
    let program = conformance::build_command()?;
    at_most_twice(|| run(cache, series, &program, resets))
}

fn run(cache: &Cache, series: Series, program: &Path, resets: usize) -> Result<Vec<String>> {
    let (dir, _lock) = run_dir(cache)?;
    let disk = dir.join("disk0");
    let content: Vec<u8> =
        (0..2 * AREA).map(|at| (at / 4096 + at % 251).to_le_bytes()[0]).collect();
    fs::write(&disk, &content)?;
    let sum: String =
        Sha256::digest(&content[..AREA]).iter().map(|byte| format!("{byte:02x}")).collect();
    let server = Server::start(program, &dir, &disk)?;
    let mut guest = Guest::start(cache, series, &dir)?;
    let told = guest.reset_under_load(&sum, resets);
    let report = guest.end(told.is_ok());
    // The guest's failure is more informative than the server's.
    let log = told.and_then(|()| server.stop())?;
    remove_tree(&disk)?;
    let mut failures = Vec::new();
    if report.end != "exit 0" {
        failures.push(format!("the guest ended with {:?}", report.end));
    }
    failures.extend(log::judge(&report.log).0);
    if !log.contains("in all: ") {
        failures.push(format!("the server did not say what it counted in all:\n{log}"));
    }
    Ok(failures)
}

/// A guest that is reset.
struct Guest<'a> {
    dir: &'a Path,
    qemu: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl<'a> Guest<'a> {
    fn start(cache: &Cache, series: Series, dir: &'a Path) -> Result<Self> {
        let root = root::Kind::Trixie.obtain(cache)?;
        let kernel = Kernel::obtain(cache, series)?;
        let initrd = dir.join("initrd");
        fs::write(&initrd, image().build(root.path(), &kernel)?)?;
        let sandbox =
            Sandbox::new(root.path()).bind(kernel.dir(), "lab/kernel").bind(dir, "lab/run");
        let mut command = sandbox.command("qemu-system-x86_64");
        command.args(arguments());
        command.args(["-m", "512M", "-qmp", "unix:/lab/run/qmp.sock,server=on,wait=off"]);
        let errors = dir.join("qemu.log");
        let log = File::create(&errors)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log.into_file());
        let cannot = |e| Error::other(format!("cannot start QEMU: {e}"));
        let mut qemu = command.spawn().map_err(cannot)?;
        let (Some(input), Some(output)) = (qemu.stdin.take(), qemu.stdout.take()) else {
            return Err(Error::other("QEMU has no standard input or output"));
        };
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for bytes in BufReader::new(output).split(b'\n').map_while(std::result::Result::ok) {
                if send.send(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { dir, qemu, input, lines, said: Vec::new() })
    }

    /// Waits until the guest reads and writes, and resets it. After the last reset, the guest ends
    /// its work and checks the data it has read.
    fn reset_under_load(&mut self, sum: &str, resets: usize) -> Result<()> {
        let mut monitor = Monitor::connect(&self.dir.join("qmp.sock"))?;
        for nth in 0..=resets {
            let when = format!("after {nth} resets");
            self.wait_for(&format!("sum {sum}"), &when)?;
            self.wait_for("reading", &when)?;
            self.wait_for("writing", &when)?;
            if nth < resets {
                monitor.execute("system_reset")?;
            }
        }
        let told = self.input.write_all(b"\n").and_then(|()| self.input.flush());
        told.map_err(|e| Error::other(format!("cannot tell the guest to end: {e}")))?;
        self.wait_for(&format!("sum {sum}"), "at the end")?;
        // Each boot prints the sum once, and once more at the end.
        match self.said.iter().filter(|line| line.starts_with("sum ")).count() {
            sums if sums == resets + 2 => Ok(()),
            sums => Err(Error::other(format!(
                "the guest booted {} times for {resets} resets, so it reset itself: {}",
                sums - 1,
                self.dir.join("console.log").display()
            ))),
        }
    }

    /// Waits until the guest prints `line`.
    fn wait_for(&mut self, line: &str, when: &str) -> Result<()> {
        loop {
            let said = match self.lines.recv_timeout(SILENCE) {
                Ok(said) => said,
                Err(RecvTimeoutError::Timeout) => {
                    let words = format!("for {} seconds said nothing", SILENCE.as_secs());
                    return Err(self.failed(line, when, &words));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failed(line, when, "ended"));
                }
            };
            let found = said.trim_end() == line;
            self.said.push(said);
            if found {
                return Ok(());
            }
        }
    }

    fn failed(&self, line: &str, when: &str, how: &str) -> Error {
        let console = self.dir.join("console.log");
        let report = fs::read_to_string(self.dir.join("report")).unwrap_or_default();
        if report.is_empty() {
            let text = fs::read_to_string(&console).unwrap_or_default();
            return Error::NotStarted { tail: last_lines(&text, 20), console };
        }
        let server = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
        let errors = Report::read(self.dir).errors;
        let first: Vec<&str> = errors.lines().take(10).collect();
        Error::other(format!(
            "{when} the guest {how} and did not say {line:?}. It had said:\n{}\n\
             Its console: {}\nQEMU:\n{}\nThe server:\n{}",
            last_lines(&self.said.join("\n"), 10),
            console.display(),
            first.join("\n"),
            last_lines(&server, 10),
        ))
    }

    /// Waits for the guest to end if `ends`, and stops it otherwise. Returns its report.
    fn end(mut self, ends: bool) -> Report {
        // The channel is closed when QEMU has ended.
        while ends && self.lines.recv_timeout(SILENCE).is_ok() {}
        // QEMU has ended already if the test passed.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        Report::read(self.dir)
    }
}

fn image() -> Image {
    Image {
        modules: vec!["nvme".to_owned()],
        command: format!("exec 2>&1\n{GUEST}"),
        variables: vec![("AREA".to_owned(), AREA.to_string())],
        ..Image::default()
    }
}
