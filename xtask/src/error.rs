//! Errors of the lab, each as a sentence that says what to do.

use std::path::PathBuf;
use std::time::Duration;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of the lab or of what ran in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed. `fs_err` names the operation and the file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A program the lab needs is not on this machine.
    #[error(
        "this machine has no `{tool}`: install Debian's package `{package}` (apt-get install {package})"
    )]
    MissingTool {
        /// The program.
        tool: String,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// A program ran and failed.
    #[error("{what} failed ({status}){}", tail_note(output))]
    Failed {
        /// What was being done.
        what: String,
        /// How the program ended.
        status: std::process::ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// The archive does not hold a kernel of the wanted series any more.
    #[error(
        "Debian's suite {suite} has no {wanted}; it holds {}. \
         Choose another --kernel, or point apt at a mirror that still has it",
        if found.is_empty() { "no kernel of that kind".to_owned() } else { found.join(", ") }
    )]
    KernelGone {
        /// The suite that was searched.
        suite: String,
        /// The package name pattern that was looked for.
        wanted: String,
        /// The packages that the archive has instead.
        found: Vec<String>,
    },
    /// The kernel and the compiler of the same suite do not belong together.
    #[error(
        "kernel {release} was built by \"{wanted}\", and the archive's compiler is \"{found}\": \
         modules in Rust need the very same compiler. Wait for the archive to rebuild the kernel, or use another --kernel"
    )]
    CompilerMismatch {
        /// The kernel's release.
        release: String,
        /// The compiler named in its configuration.
        wanted: String,
        /// The compiler in the archive.
        found: String,
    },
    /// The guest ended without reporting an exit status.
    #[error(
        "the guest {how}. The end of its console (all of it: {}):\n{tail}",
        console.display()
    )]
    Guest {
        /// How the guest ended: it panicked, hung, or ran out of time.
        how: String,
        /// The console's log.
        console: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The guest's kernel did not reach its first program in time.
    #[error(
        "the guest did not reach its first program in {} seconds. \
         The end of its console (all of it: {}):\n{tail}",
        waited.as_secs(),
        console.display()
    )]
    NotStarted {
        /// How long the lab waited.
        waited: Duration,
        /// The console's log.
        console: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The guest started, but could not be set up as requested.
    #[error("the guest could not be set up: {reason} (console: {})", console.display())]
    Setup {
        /// The reason that init reported.
        reason: String,
        /// The console's log.
        console: PathBuf,
    },
    /// Any other error, in words.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// Returns an [`Error::Other`].
    pub fn other(words: impl Into<String>) -> Self {
        Self::Other(words.into())
    }
}

/// Returns an error with all failures if there are any.
pub fn all_right(failures: Vec<String>) -> Result<()> {
    if failures.is_empty() { Ok(()) } else { Err(Error::other(failures.join("\n"))) }
}

fn tail_note(output: &str) -> String {
    let output = output.trim_end();
    if output.is_empty() { String::new() } else { format!(":\n{output}") }
}

/// Returns the last `count` lines of `text`.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
