//! The notices of the crates that the command is linked with. Their licences ask that a copy of the
//! program comes with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use fs_err as fs;
use serde::Deserialize;

use crate::checkout::cargo;
use crate::error::{Error, Result};
use crate::lab::process::capture;

const TARGET: &str = "x86_64-unknown-linux-gnu";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    /// The registry. The crates of this workspace have none.
    source: Option<String>,
    manifest_path: PathBuf,
}

/// Returns the crates that `package` is linked with, with their licences, and each text of a licence
/// once, below the names of the crates that have it.
pub fn notices(package: &str) -> Result<String> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version=1", "--locked", "--filter-platform", TARGET]);
    let metadata: Metadata = serde_json::from_str(&capture(metadata, "cargo metadata")?)
        .map_err(|error| Error::other(format!("reading what cargo metadata printed: {error}")))?;
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}"]);
    tree.args(["--target", TARGET, "--package", package]);
    let tree = capture(tree, "cargo tree")?;
    // A line is "name v1.2.3", and " (proc-macro)" or a path after it.
    let linked: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?.strip_prefix('v')?))
        })
        .collect();
    let is_linked = |package: &&Package| {
        package.source.is_some() && linked.contains(&(&*package.name, &*package.version))
    };
    let crates: Vec<&Package> = metadata.packages.iter().filter(is_linked).collect();
    let mut list = String::from(
        "The program is linked with the standard library of Rust (https://github.com/rust-lang/rust,\n\
         MIT OR Apache-2.0) and with these crates. The texts of their licences follow.\n\n",
    );
    let mut texts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for package in crates {
        let license = package.license.as_deref().unwrap_or("see the text of its licence");
        let home = package.repository.as_deref().unwrap_or("https://crates.io");
        list.push_str(&format!("{} {}: {license}, {home}\n", package.name, package.version));
        let found = licences(package)?;
        if found.is_empty() {
            let what = format!("the crate {} brings no text of its licence", package.name);
            return Err(Error::other(what));
        }
        for text in found {
            texts.entry(text).or_default().push(&package.name);
        }
    }
    for (text, mut names) in texts {
        names.dedup();
        list.push_str(&format!("\n{}\n{}\n\n{text}\n", "-".repeat(72), names.join(", ")));
    }
    Ok(list)
}

/// Returns the texts of licences and notices that a crate's directory has.
fn licences(package: &Package) -> Result<Vec<String>> {
    let Some(dir) = package.manifest_path.parent() else { return Ok(Vec::new()) };
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let is_licence = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    // Without blanks at the ends of lines and of the text, so that the same text is there once.
    let plain =
        |text: String| text.trim().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    files.into_iter().filter(is_licence).map(|path| Ok(plain(fs::read_to_string(path)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::notices;

    #[test]
    fn a_linked_crate_is_named_with_its_licence_and_its_text_once() {
        let text = notices("vfio-irq-cli").unwrap();
        let clap = text.lines().find(|line| line.starts_with("clap ")).unwrap();
        assert!(clap.contains(": MIT OR Apache-2.0, https://github.com/clap-rs/clap"), "{clap}");
        assert!(!text.contains("\nvfio-irq-engine "), "this workspace's own crates are no others'");
        // criterion is linked with benches alone.
        assert!(!text.contains("\ncriterion "));
        let mut blocks: Vec<&str> = text.split(&"-".repeat(72)).skip(1).collect();
        blocks.iter_mut().for_each(|block| *block = block.split_once("\n\n").unwrap().1.trim());
        let all = blocks.len();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), all, "a text is there twice");
        assert!(blocks.iter().any(|text| text.contains("9. Accepting Warranty")));
    }
}
