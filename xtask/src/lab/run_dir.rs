//! The directory of one guest: its image and disks, and the files that it leaves.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err::{self as fs, File};

use super::cache::{Cache, remove_tree};
use super::start::STARTED;
use crate::error::{Result, last_lines};

/// How many runs keep their logs.
const KEPT_RUNS: usize = 20;

/// A directory that no other run removes while this value lives. A guest sees it as `/lab/run`.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

/// What a guest left.
#[derive(Debug)]
pub struct Report {
    /// The kernel's log at the end.
    pub log: String,
    /// How the guest's command ended: `exit N` or `failure WORDS`. Empty if the guest died before.
    pub end: String,
    /// QEMU's error messages.
    pub errors: String,
}

impl RunDir {
    /// Creates a directory and removes the oldest unused ones.
    pub fn create(cache: &Cache) -> Result<Self> {
        let runs = cache.scratch("runs")?;
        let mut old: Vec<PathBuf> = fs::read_dir(&runs)?.flatten().map(|e| e.path()).collect();
        old.sort();
        for path in old.iter().rev().skip(KEPT_RUNS) {
            let unused = File::open(path.join("lock")).map_or(true, |lock| lock.try_lock().is_ok());
            if unused {
                remove_tree(path)?;
            }
        }
        // Guests of one process may start within one millisecond.
        static STARTS: AtomicU32 = AtomicU32::new(0);
        let nth = STARTS.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let path = runs.join(format!("{now:013}-{}-{nth}", std::process::id()));
        fs::create_dir(&path)?;
        let lock = File::create(path.join("lock"))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file to which the kernel's console goes.
    pub fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }

    /// Returns the file to which init reports.
    pub fn report_file(&self) -> PathBuf {
        self.path.join("report")
    }

    /// Creates the file of QEMU's error messages.
    pub fn qemu_log(&self) -> Result<std::fs::File> {
        Ok(File::create(self.path.join("qemu.log"))?.into_file())
    }

    /// Reads what the guest left.
    pub fn report(&self) -> Report {
        let report = read_text(&self.report_file());
        let (log, end) = split_report(&report);
        let errors = read_text(&self.path.join("qemu.log"));
        Report { log: whole_log(log, &read_text(&self.console())), end: end.to_owned(), errors }
    }

    /// Returns the end of what the guest's console and QEMU said.
    pub fn tail(&self) -> String {
        let text = format!("{}{}", read_text(&self.console()), self.report().errors);
        last_lines(text.trim_end(), 40)
    }
}

/// Returns the text of a file without carriage returns; empty if it cannot be read.
pub fn read_text(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', ""))
        .unwrap_or_default()
}

/// Returns the kernel's log. The kernel keeps the last messages only. If the first are gone, those on the
/// console, which are the serious ones, stand for them.
fn whole_log(log: &str, console: &str) -> String {
    let begins = log.trim_start().starts_with("[    0.");
    if begins { log.to_owned() } else { format!("{console}\n{log}") }
}

/// Splits a report into the kernel's log and its last line.
fn split_report(report: &str) -> (&str, &str) {
    let body = report.strip_prefix(STARTED).unwrap_or(report).trim_start();
    let body = body.strip_prefix("@@ log\n").unwrap_or(body);
    match body.rsplit_once("@@ ") {
        Some((log, end)) => (log, end.trim_end()),
        None => (body, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::whole_log;

    #[test]
    fn messages_that_the_kernel_has_forgotten_are_those_of_the_console() {
        let console = "[    9.000000] BUG: KASAN";
        let whole = "[    0.000000] Linux version\n[    9.000000] BUG: KASAN\n";
        assert_eq!(whole_log(whole, console), whole);
        assert!(
            whole_log("[ 2034.335428] smpboot: CPU 1 is now offline\n", console).contains("BUG")
        );
        assert!(whole_log("", console).contains("BUG"));
    }
}
