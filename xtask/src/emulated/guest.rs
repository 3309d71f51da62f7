//! A guest of an unmodified QEMU whose disk is the server's, and the lines that it prints.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use fs_err as fs;

use super::CPUS;
use crate::error::{Error, Result, last_lines};
use crate::lab::cache::Cache;
use crate::lab::image::Image;
use crate::lab::kernel::{Kernel, Series};
use crate::lab::root;
use crate::lab::run_dir::{Report, RunDir, read_text};
use crate::lab::sandbox::Sandbox;
use crate::lab::start::{FAIR, is_started};
use crate::log;

/// How long a guest may be silent. The limit detects a hang; it is no measurement.
const SILENCE: Duration = Duration::from_secs(300);

/// Options for memory that the server maps, for one boot.
pub const SHARED_MEMORY: [&str; 7] = [
    "-m",
    "1G",
    "-object",
    "memory-backend-memfd,id=mem,size=1G,share=on",
    "-machine",
    "memory-backend=mem",
    "-no-reboot",
];

/// A running guest. QEMU ends when this value is dropped.
pub struct Guest<'a> {
    dir: &'a RunDir,
    qemu: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// The lines that the guest has printed.
    pub said: Vec<String>,
}

impl<'a> Guest<'a> {
    /// Starts QEMU with the server's disk and with `options`, and waits for the guest's first
    /// program.
    pub fn start(
        cache: &Cache,
        series: Series,
        dir: &'a RunDir,
        image: &Image,
        options: &[&str],
    ) -> Result<Self> {
        let root = root::Kind::Trixie.obtain(cache)?;
        let kernel = Kernel::obtain(cache, series)?;
        fs::write(dir.path().join("initrd"), image.build(root.path(), &kernel)?)?;
        let mut command = Sandbox::new(root.path())
            .bind(kernel.dir(), "lab/kernel")
            .bind(dir.path(), "lab/run")
            .command("qemu-system-x86_64");
        command.args(arguments()).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(dir.qemu_log()?);
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
        let mut guest = Self { dir, qemu, input, lines, said: Vec::new() };
        if !is_started(&mut guest.qemu, &dir.report_file(), FAIR) {
            return Err(Error::NotStarted {
                waited: FAIR,
                console: dir.console(),
                tail: dir.tail(),
            });
        }
        Ok(guest)
    }

    /// Waits for the guest's next line. Returns `None` if the guest has ended.
    pub fn line(&mut self) -> Result<Option<String>> {
        match self.lines.recv_timeout(SILENCE) {
            Ok(line) => {
                self.said.push(line.clone());
                Ok(Some(line))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                Err(self.failed(&format!("said nothing for {} seconds", SILENCE.as_secs())))
            }
        }
    }

    /// Sends an empty line, for which the guest waits.
    pub fn answer(&mut self) -> Result<()> {
        let told = self.input.write_all(b"\n").and_then(|()| self.input.flush());
        told.map_err(|e| self.failed(&format!("does not take an answer ({e})")))
    }

    /// Waits for the guest's end, which must be a success without a fault in its kernel's log.
    /// Returns its report.
    pub fn finish(mut self) -> Result<Report> {
        while self.line()?.is_some() {}
        let status =
            self.qemu.wait().map_err(|e| Error::other(format!("cannot wait for QEMU: {e}")))?;
        let report = self.dir.report();
        if report.end != "exit 0" {
            return Err(self.failed(&format!("ended with {:?} (QEMU: {status})", report.end)));
        }
        let (alarms, _) = log::judge(&report.log);
        if !alarms.is_empty() {
            return Err(Error::other(format!("the guest's kernel said:\n{}", alarms.join("\n"))));
        }
        Ok(report)
    }

    /// Returns an error with everything that was said.
    pub fn failed(&self, how: &str) -> Error {
        let errors = self.dir.report().errors;
        let first: Vec<&str> = errors.lines().take(10).collect();
        Error::other(format!(
            "the guest {how}. It had said:\n{}\nIts console: {}\nQEMU:\n{}\nThe server:\n{}",
            last_lines(&self.said.join("\n"), 20),
            self.dir.console().display(),
            first.join("\n"),
            last_lines(&read_text(&self.dir.path().join("server.log")), 10),
        ))
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        // QEMU has ended already if the test passed.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Returns QEMU's options for a guest with the server's disk, without its memory.
fn arguments() -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| list.extend(words.iter().map(|&word| word.to_owned()));
    let cpus = CPUS.to_string();
    add(&["-M", "q35", "-accel", "tcg", "-cpu", "max,-erms,-fsrm", "-smp", &cpus]);
    add(&["-nodefaults", "-no-user-config", "-display", "none"]);
    add(&["-kernel", "/lab/kernel/vmlinuz", "-initrd", "/lab/run/initrd"]);
    add(&["-append", "console=ttyS0 loglevel=5 panic=-1 oops=panic no_timer_check"]);
    add(&["-chardev", "stdio,id=command,signal=off", "-serial", "file:/lab/run/console.log"]);
    add(&["-serial", "chardev:command", "-serial", "file:/lab/run/report"]);
    add(&[
        "-device",
        r#"{"driver":"vfio-user-pci","socket":{"path":"/lab/run/nvme.sock","type":"unix"}}"#,
    ]);
    list
}
