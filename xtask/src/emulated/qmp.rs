//! QEMU's monitor (QMP), one command at a time.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// How long QEMU may take to make its socket, and to answer a command.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the monitor of one QEMU.
pub struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to the monitor at `socket` once QEMU has made it.
    pub fn connect(socket: &Path) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    let why = format!("cannot connect to {}: {error}", socket.display());
                    return Err(Error::other(why));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self { lines: BufReader::new(stream) };
        monitor.next()?; // the greeting
        monitor.execute("qmp_capabilities")?;
        Ok(monitor)
    }

    /// Executes a command without arguments, and waits for its end.
    pub fn execute(&mut self, command: &str) -> Result<()> {
        let request = format!("{}\n", json!({ "execute": command }));
        let sent = self.lines.get_mut().write_all(request.as_bytes());
        sent.map_err(|e| Error::other(format!("QEMU does not take {command}: {e}")))?;
        loop {
            let answer = self.next().map_err(|e| Error::other(format!("{command}: {e}")))?;
            if answer.get("return").is_some() {
                return Ok(());
            }
            // Events come in between, among them the event of SeaBIOS's own reset.
            if answer.get("event").is_none() {
                return Err(Error::other(format!("{command}: QEMU answers {answer}")));
            }
        }
    }

    fn next(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        read.map_err(|e| Error::other(format!("QEMU's monitor does not answer: {e}")))?;
        serde_json::from_str(&line)
            .map_err(|e| Error::other(format!("QEMU's monitor says {line:?} ({e})")))
    }
}
