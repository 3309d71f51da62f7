//! One boot of the guest: the reports and counts of both sides.

use fs_err::{self as fs, File};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use super::server::{COUNTED, Server, Watch};
use super::{AREA, CPUS, READS};
use crate::error::{Error, Result, last_lines};
use crate::lab::cache::{Cache, remove_tree};
use crate::lab::guest::{End, Report, attend_with};
use crate::lab::image::Image;
use crate::lab::kernel::{Kernel, Series};
use crate::lab::sandbox::Sandbox;
use crate::lab::start::{Started, at_most_twice};
use crate::lab::{program, root};
use crate::log;

/// Runs in the guest.
const GUEST: &str = include_str!("guest.sh");

/// How long one boot may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Signals by vector.
pub type Signals = BTreeMap<u32, u64>;

/// The guest's lines by their first word, and the server's counts.
pub struct Boot {
    /// The output of the guest's script.
    pub output: String,
    /// The server's counts for the whole boot.
    pub signals: Signals,
    /// The server's counts at each of the guest's marks.
    pub marks: BTreeMap<String, Signals>,
    /// QEMU's trace of MSI-X.
    pub trace: String,
    /// The log of the guest's kernel.
    pub log: String,
}

/// An interrupt as the guest saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The NVMe queue of the interrupt; 0 is the admin queue.
    pub queue: u32,
    /// The MSI-X vector.
    pub vector: u32,
    /// The number of interrupts.
    pub count: u64,
}

impl Boot {
    /// Returns the lines that begin with `word`, without the word.
    pub fn lines(&self, word: &str) -> Vec<&str> {
        let rest = |line| -> Option<&str> { str::strip_prefix(line, word)?.strip_prefix(' ') };
        self.output.lines().filter_map(rest).collect()
    }

    /// Returns the guest's view of each interrupt, from the lines that begin with `word`.
    pub fn interrupts(&self, word: &str) -> Vec<Seen> {
        let line = |line: &&str| {
            let mut words = line.split_whitespace();
            let queue = words.next()?.parse().ok()?;
            let vector = words.next()?.parse().ok()?;
            Some(Seen { queue, vector, count: words.next()?.parse().ok()? })
        };
        self.lines(word).iter().filter_map(line).collect()
    }
}

/// The guest's output and the counts while it runs.
#[derive(Default)]
struct Talk {
    output: String,
    marks: BTreeMap<String, Signals>,
    /// The error that prevented the counts.
    trouble: Option<Error>,
}

/// Reads the guest's output. At each of its marks, asks the server for its counts. The guest waits
/// for that, so that no interrupt arrives meanwhile. Returns the talk.
fn talk(stdout: ChildStdout, mut stdin: ChildStdin, watch: &Watch) -> Talk {
    let mut talk = Talk::default();
    for bytes in BufReader::new(stdout).split(b'\n') {
        let Ok(bytes) = bytes else { break };
        let line = String::from_utf8_lossy(&bytes);
        if let Some(mark) = line.strip_prefix("mark ") {
            match watch.counts() {
                Ok(counts) => drop(talk.marks.insert(mark.trim().to_owned(), counts)),
                Err(error) => talk.trouble = Some(error),
            }
            // A guest that has ended needs no answer.
            let _ = stdin.write_all(b"\n").and_then(|()| stdin.flush());
        }
        talk.output.push_str(&line);
        talk.output.push('\n');
    }
    talk
}

/// Boots the guest with the server's disk, twice if it does not reach its first program. `step`
/// says which start it is. Returns the boot.
pub fn boot(
    cache: &Cache,
    series: Series,
    dir: &Path,
    server: &Server,
    step: &str,
) -> Result<Started<Boot>> {
    at_most_twice(|| boot_once(cache, series, dir, server, step))
}

fn boot_once(
    cache: &Cache,
    series: Series,
    dir: &Path,
    server: &Server,
    step: &str,
) -> Result<Boot> {
    let root = root::Kind::Trixie.obtain(cache)?;
    let kernel = Kernel::obtain(cache, series)?;
    let initrd = dir.join("initrd");
    fs::write(&initrd, image(cache, step)?.build(root.path(), &kernel)?)?;
    let sandbox = Sandbox::new(root.path()).bind(kernel.dir(), "lab/kernel").bind(dir, "lab/run");
    let mut command = sandbox.command("qemu-system-x86_64");
    command.args(arguments()).args(ONE_BOOT);
    let errors = dir.join("qemu.log");
    let log = File::create(&errors)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log.into_file());
    let before = server.said().len();
    let mut child = command.spawn().map_err(|e| Error::other(format!("cannot start QEMU: {e}")))?;
    let stdin = child.stdin.take().ok_or_else(|| Error::other("QEMU has no standard input"))?;
    let watch = server.watch();
    let report = dir.join("report");
    let (talk, end) =
        attend_with(&mut child, PATIENCE, &report, move |stdout| talk(stdout, stdin, &watch));
    let status = child.wait().map_err(|e| Error::other(format!("cannot wait for QEMU: {e}")))?;
    remove_tree(&initrd)?;
    let report = Report::read(dir);
    let said = server.said_of_client(before);
    if let Some(error) = talk.trouble {
        return Err(error);
    }
    if end == End::NotStarted {
        let tail = last_lines(&report.errors, 10);
        return Err(Error::NotStarted { console: dir.join("console.log"), tail });
    }
    if end != End::ByItself || report.end != "exit 0" {
        return Err(Error::other(format!(
            "the guest ended with {:?} (QEMU: {status}, {end:?}).\nIt said:\n{}\nIts console: {}\nQEMU: {}\nThe server:\n{said}",
            report.end,
            last_lines(&talk.output, 20),
            dir.join("console.log").display(),
            last_lines(&report.errors, 10),
        )));
    }
    let (alarms, _) = log::judge(&report.log);
    if !alarms.is_empty() {
        return Err(Error::other(format!("the guest's kernel said:\n{}", alarms.join("\n"))));
    }
    Ok(Boot {
        output: talk.output,
        signals: signals(&said),
        marks: talk.marks,
        trace: report.errors,
        log: report.log,
    })
}

fn image(cache: &Cache, step: &str) -> Result<Image> {
    let cli = root::Kind::NvmeCli.obtain(cache)?;
    let set = |name: &str, value: String| (name.to_owned(), value);
    Ok(Image {
        modules: ["nvme", "ext4", "loop"].map(str::to_owned).to_vec(),
        command: format!("exec 2>&1\n{GUEST}"),
        files: program::files(&cli.path().join("usr/sbin/nvme"), cli.path())?,
        variables: vec![
            set("STEP", step.to_owned()),
            set("AREA", AREA.to_string()),
            set("READS", READS.to_string()),
        ],
        ..Image::default()
    })
}

/// Parses the server's line about a client that has left: `… interrupts 0:31 1:5012`.
fn signals(said: &str) -> Signals {
    let line = said.lines().rev().find(|line| line.contains(COUNTED));
    let list = line.and_then(|line| line.split_once("; interrupts")).map_or("", |(_, list)| list);
    let pair = |word: &str| {
        let (vector, count) = word.split_once(':')?;
        Some((vector.parse().ok()?, count.parse().ok()?))
    };
    list.split_whitespace().filter_map(pair).collect()
}

/// Returns QEMU's options for a guest with the server's disk, without its memory.
pub fn arguments() -> Vec<String> {
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

/// Options for memory that the server maps, for one boot, and for a trace.
const ONE_BOOT: [&str; 11] = [
    "-m",
    "1G",
    "-object",
    "memory-backend-memfd,id=mem,size=1G,share=on",
    "-machine",
    "memory-backend=mem",
    "-no-reboot",
    "-trace",
    "vfio_msix_early_setup",
    "-trace",
    "vfio_msix_vector_do_use",
];

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
