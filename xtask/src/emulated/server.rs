//! Runs `vfio-irq serve nvme` for a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fs_err::{self as fs, File};
use serde_json::Value;

use crate::error::{Error, Result, last_lines};
use crate::lab::process::capture;

/// Signals by vector.
pub type Signals = BTreeMap<u32, u64>;

/// The server's text before its counts when a client has left.
pub const COUNTED: &str = "this client: ";

/// How long the server may be busy after its client has the answer.
const REST: Duration = Duration::from_secs(10);

/// Returns a failure if a server's log lacks the counts of all its clients.
pub fn missing_counts(log: &str) -> Vec<String> {
    let missing = format!("the server did not say what it counted in all:\n{log}");
    if log.contains("in all: ") { Vec::new() } else { vec![missing] }
}

/// Returns true if a thread sleeps: its state in /proc follows the name in brackets.
fn is_asleep(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

/// A server with one disk, which is stopped when this value is dropped.
pub struct Server {
    program: PathBuf,
    child: Child,
    log: PathBuf,
    socket: PathBuf,
}

impl Server {
    /// Starts the server and waits for its socket.
    pub fn start(program: &Path, dir: &Path, disk: &Path) -> Result<Self> {
        let (log, socket) = (dir.join("server.log"), dir.join("nvme.sock"));
        let file = File::create(&log)?;
        let mut command = Command::new(program);
        command.args(["serve", "nvme", "--socket"]).arg(&socket).arg("--file").arg(disk);
        command.env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file.into_file());
        let child = command
            .spawn()
            .map_err(|e| Error::other(format!("cannot start {}: {e}", program.display())))?;
        let server = Self { program: program.to_owned(), child, log, socket };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !server.socket.exists() {
            if Instant::now() > deadline {
                let said = last_lines(&server.said(), 10);
                return Err(Error::other(format!("vfio-irq does not listen: {said}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Returns how often each vector was signalled so far. There must be a client, and it must be
    /// idle meanwhile.
    pub fn counts(&self) -> Result<Signals> {
        self.rest()?;
        let mut command = Command::new(&self.program);
        command.arg("watch").arg(format!("vfio-user:{}", self.socket.display()));
        command.args(["--once", "--json"]);
        let text = capture(command, "asking the server for its counts with `vfio-irq watch`")?;
        let counts: Value = serde_json::from_str(&text).map_err(|e| {
            Error::other(format!("`vfio-irq watch` did not print JSON ({e}): {text}"))
        })?;
        let pair = |row: &Value| {
            Some((row["vector"].as_u64()?.try_into().ok()?, row["signals"].as_u64()?))
        };
        let rows = counts["vectors"].as_array().map(Vec::as_slice).unwrap_or_default();
        rows.iter()
            .map(|row| pair(row).ok_or_else(|| Error::other(format!("what vector is that? {row}"))))
            .collect()
    }

    /// Waits until each thread of the server has slept once. The server counts an interrupt after
    /// it has signalled it, so the client may see it first. A thread that sleeps has finished its
    /// count.
    fn rest(&self) -> Result<()> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let deadline = Instant::now() + REST;
        let list = fs::read_dir(&tasks)?;
        for task in list.flatten() {
            let path = task.path().join("stat");
            // A thread that has ended is absent.
            while fs::read_to_string(&path).is_ok_and(|stat| !is_asleep(&stat)) {
                if Instant::now() > deadline {
                    return Err(Error::other(format!(
                        "the server has no rest although its client has: {} does not sleep",
                        task.path().display()
                    )));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Returns its log so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the client has left and was counted. Returns the log from `from` on.
    pub fn said_of_client(&self, from: usize) -> String {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let said = self.said().get(from..).unwrap_or_default().to_owned();
            if said.contains(COUNTED) || Instant::now() > deadline {
                return said;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server with a signal, as an init system does. Returns its log, or an error that
    /// names what it left behind.
    pub fn stop(mut self) -> Result<String> {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        asked.map_err(|e| Error::other(format!("cannot run kill: {e}")))?;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() && !self.socket.exists() => break,
                Ok(Some(status)) => {
                    return Err(Error::other(format!(
                        "vfio-irq ended with {status}, its socket is {}",
                        if self.socket.exists() { "still there" } else { "gone" }
                    )));
                }
                _ if Instant::now() > deadline => {
                    return Err(Error::other("vfio-irq did not end within 10 s of SIGTERM"));
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Ok(self.said())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server has ended already if the test passed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::is_asleep;

    #[test]
    fn a_threads_state_comes_after_its_name() {
        assert!(is_asleep("12 (a) S (b)) S 1 12"));
        assert!(!is_asleep("12 (a) S b) R 1 12"));
        assert!(!is_asleep(""));
    }
}
