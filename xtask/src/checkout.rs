//! The checkout from which this program was built, and the programs that work in it.

use std::path::Path;
use std::process::Command;

use crate::error::Result;
use crate::lab::process::capture;

/// Returns the checkout from which this program was built.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Returns cargo, in the checkout.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(checkout());
    command
}

/// Runs git in the checkout. Returns what it printed.
pub fn git(args: &[&str]) -> Result<String> {
    let mut git = Command::new("git");
    git.current_dir(checkout()).args(args);
    Ok(capture(git, &format!("git {}", args.join(" ")))?.trim().to_owned())
}

/// Returns the commit of the sources, in git's `format`, and a note if files differ from it, other than
/// those of `except` (pathspecs of git).
pub fn commit(format: &str, except: &[&str]) -> Result<String> {
    let changed = git(&[&["status", "--porcelain", "--", "."], except].concat())?;
    let changed = if changed.is_empty() { "" } else { " (and changes that are not committed)" };
    Ok(git(&["log", "-1", &format!("--format={format}")])? + changed)
}
