//! Runs programs, with errors that name the operation, and shows progress.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Error, Result, last_lines};

/// Lines of a failed program's output that its error shows.
const TAIL: usize = 40;

/// One step of slow work that is shown on the terminal.
pub struct Step {
    bar: ProgressBar,
}

impl Step {
    /// Starts a step; with `total` it is a bar, otherwise a spinner. Returns it.
    pub fn start(title: &str, total: Option<u64>) -> Self {
        if !std::io::stderr().is_terminal() {
            eprintln!("lab: {title} …");
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let template = match total {
            Some(_) => "{spinner} {prefix} [{bar:24}] {pos}/{len} {wide_msg}",
            None => "{spinner} {prefix} ({elapsed}) {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(title.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }

    /// Advances the bar by one unit, which `note` names.
    pub fn advance(&self, note: &str) {
        self.bar.inc(1);
        self.note(note);
    }

    /// Shows the current operation.
    pub fn note(&self, note: &str) {
        self.bar.set_message(note.trim().to_owned());
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Turns the error "program not found" into the name of the package that has the program.
fn spawn_error(command: &Command, error: &std::io::Error) -> Error {
    let tool = command.get_program().to_string_lossy().into_owned();
    if error.kind() == std::io::ErrorKind::NotFound {
        let package = package_of(&tool);
        return Error::MissingTool { tool, package };
    }
    Error::other(format!("cannot start `{tool}`: {error}"))
}

fn package_of(tool: &str) -> &'static str {
    match tool {
        "unshare" | "setpriv" | "mount" => "util-linux",
        "dpkg-deb" => "dpkg",
        "apt-get" | "apt-cache" | "apt-config" => "apt",
        "cargo" => "cargo",
        "tar" => "tar",
        _ => "coreutils",
    }
}

/// Fails early, in words, if the machine lacks a tool that provisioning needs.
pub fn require_tools() -> Result<()> {
    for tool in ["apt-get", "apt-cache", "dpkg-deb", "unshare", "setpriv", "mount", "chroot"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places: Vec<_> = std::env::split_paths(&path).collect();
        places.extend(["/usr/sbin".into(), "/sbin".into()]);
        if !places.iter().any(|place| place.join(tool).is_file()) {
            return Err(Error::MissingTool { tool: tool.to_owned(), package: package_of(tool) });
        }
    }
    Ok(())
}

/// Runs a program. Returns its standard output.
pub fn capture(mut command: Command, what: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| spawn_error(&command, &e))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let shown = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::Failed {
        what: what.to_owned(),
        status: output.status,
        output: last_lines(&shown, TAIL),
    })
}

/// Runs a program and hands each line of both streams to `line`. Returns an error with the output
/// if the program fails.
pub fn follow(mut command: Command, what: &str, mut line: impl FnMut(&str)) -> Result<()> {
    let (reader, writer) =
        std::io::pipe().map_err(|e| Error::other(format!("cannot make a pipe: {e}")))?;
    let stderr =
        writer.try_clone().map_err(|e| Error::other(format!("cannot copy a pipe: {e}")))?;
    command.stdin(Stdio::null()).stdout(writer).stderr(stderr);
    let mut child = command.spawn().map_err(|e| spawn_error(&command, &e))?;
    drop(command); // it holds the pipe's writing ends, and the reader waits for all of them
    let mut seen = String::new();
    for text in BufReader::new(reader).split(b'\n') {
        let Ok(bytes) = text else { break };
        let text = String::from_utf8_lossy(&bytes);
        line(&text);
        seen.push_str(&text);
        seen.push('\n');
    }
    let status = child.wait().map_err(|e| Error::other(format!("cannot wait for a child: {e}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { what: what.to_owned(), status, output: last_lines(&seen, TAIL) })
}

/// Copies `from` into memory and, if `echo`, to this program's standard output as it comes. Returns
/// the bytes.
pub fn drain(mut from: impl Read, echo: bool) -> Vec<u8> {
    use std::io::Write;
    let mut all = Vec::new();
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..count];
        all.extend_from_slice(bytes);
        if echo {
            let mut out = std::io::stdout().lock();
            // A closed standard output is no reason to stop the guest.
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        }
    }
    all
}
