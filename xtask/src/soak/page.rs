//! The page "What was tried": the figures of long runs, generated from a file of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::checkout::checkout;
use crate::error::{Error, Result};

const HEAD: &str = "\
# What was tried

Long runs, each with what it counted and the command that repeats it. `cargo xtask soak` writes this
page after a run that found nothing; a run that finds something fails instead. Kernels run in QEMU,
which emulates their processors and devices. The same seed of the same sources sends the same requests.
";

/// A run that found nothing.
#[derive(Serialize, Deserialize)]
pub struct Entry {
    /// What was done.
    pub what: String,
    /// What was counted.
    pub figures: Vec<String>,
    /// How long it took.
    pub seconds: u64,
    /// The commit that was run.
    #[serde(default)]
    pub sources: String,
}

/// The figures of all runs, by their names.
#[derive(Serialize, Deserialize, Default)]
pub struct Page(BTreeMap<String, Entry>);

fn place(extension: &str) -> PathBuf {
    checkout().join("docs/tried").with_extension(extension)
}

impl Page {
    /// Reads the figures of earlier runs.
    pub fn read() -> Result<Self> {
        let path = place("json");
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path)?;
        serde_json::from_str(&text)
            .map_err(|why| Error::other(format!("{} cannot be read: {why}", path.display())))
    }

    /// Replaces the figures of a run.
    pub fn put(&mut self, name: &str, entry: Entry) {
        self.0.insert(name.to_owned(), entry);
    }

    /// Writes the figures and the page.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|why| Error::other(format!("the figures are no JSON: {why}")))?;
        fs::write(place("json"), text + "\n")?;
        Ok(fs::write(place("md"), self.text())?)
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let mut table = "";
        for (name, Entry { what, figures, seconds, sources }) in &self.0 {
            let minutes = seconds.div_ceil(60);
            let sources = if sources.is_empty() { "not noted" } else { sources };
            let (run, row) = name.split_once('/').unwrap_or((name, ""));
            let command = format!("```\n$ cargo xtask soak --only {run}");
            // Writing to a string does not fail.
            let _ = if row.is_empty() {
                let figures = figures.join("\n");
                write!(
                    text,
                    "\n## {run}\n\n{what} {minutes} min. Sources: {sources}.\n\n{command}\n{figures}\n```\n"
                )
            } else {
                if table != run {
                    table = run;
                    let _ = write!(
                        text,
                        "\n## {run}\n\n{what}\n\n{command}\n```\n\n| Test | Minutes | Sources |\n|---|--:|---|\n"
                    );
                }
                writeln!(text, "| {row} | {minutes} | {sources} |")
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_the_one_of_the_figures() {
        let page = Page::read().expect("the figures are readable");
        assert_eq!(fs::read_to_string(place("md")).expect("the page is readable"), page.text());
    }
}
