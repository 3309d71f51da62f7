//! `cargo xtask release`: checks that everything names one version, and makes the files of a release.

use std::path::PathBuf;

use fs_err as fs;
use sha2::{Digest, Sha256};

use crate::checkout::{cargo, checkout, git};
use crate::error::{Error, Result, all_right};
use crate::lab::cache::{Cache, remove_tree};
use crate::lab::process::{Step, follow};
use crate::package::{self, VERSION};

/// Where the files go.
#[derive(clap::Args)]
pub struct Options {
    /// The directory that gets the files, which is emptied first
    #[arg(long, value_name = "DIRECTORY", default_value = "target/dist")]
    out: PathBuf,
}

/// Makes the sources, the packages and their checksums, and tries to publish the crates. Nothing leaves
/// this machine.
pub fn run(options: &Options) -> Result<()> {
    let changed = git(&["status", "--porcelain"])?;
    if !changed.is_empty() {
        return Err(Error::other(format!(
            "a release is a commit, and these files differ:\n{changed}"
        )));
    }
    all_right(disagreements(|file| Ok(fs::read_to_string(checkout().join(file))?))?)?;
    let list = options.out.join("SHA256SUMS");
    let is_used = fs::read_dir(&options.out).is_ok_and(|mut files| files.next().is_some());
    if is_used && !list.is_file() {
        return Err(Error::other(format!(
            "{} has files and is no earlier release: choose an empty directory",
            options.out.display()
        )));
    }
    remove_tree(&options.out)?;
    fs::create_dir_all(&options.out)?;
    crates()?;
    let name = format!("vfio-irq-{VERSION}");
    let sources = std::path::absolute(options.out.join(format!("{name}.tar.gz")))?;
    let prefix = format!("--prefix={name}/");
    git(&["archive", &prefix, "--output", &sources.display().to_string(), "HEAD"])?;
    let mut files = vec![sources];
    for package in package::build(&Cache::open()?, VERSION)? {
        let to = options.out.join(package.file_name().unwrap_or_default());
        fs::copy(&package, &to)?;
        files.push(to);
    }
    let mut sums = String::new();
    for file in &files {
        let sum = Sha256::digest(fs::read(file)?);
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        sums.push_str(&format!("{sum}  {name}\n"));
    }
    fs::write(&list, &sums)?;
    print!("{sums}");
    println!(
        "{}\nWhat is left to do by hand: git tag v{VERSION}, cargo publish --workspace",
        list.display()
    );
    Ok(())
}

/// Packs every crate that is published, and builds each from its package.
fn crates() -> Result<()> {
    let step = Step::start("Trying to publish the crates", None);
    let mut cargo = cargo();
    cargo.args(["publish", "--dry-run", "--workspace"]);
    // Its own directory: packages are built from other sources than the checkout's.
    cargo.arg("--target-dir").arg(checkout().join("target/publish"));
    follow(cargo, "cargo publish --dry-run", |line| step.note(line))
}

/// Returns the files that name another version than the workspace's. `read` reads one.
fn disagreements(read: impl Fn(&str) -> Result<String>) -> Result<Vec<String>> {
    let wanted = [
        ("CHANGELOG.md", format!("\n## {VERSION} (")),
        ("kernel/hooks.c", format!("MODULE_VERSION(\"vfio-irq {VERSION}\");")),
        ("README.md", format!("\"vfio-irq {VERSION}\"")),
    ];
    let mut lacking = Vec::new();
    for (file, text) in wanted {
        if !read(file)?.contains(&text) {
            lacking.push(format!("{file} has no {:?}", text.trim()));
        }
    }
    Ok(lacking)
}

#[cfg(test)]
mod tests {
    use super::{VERSION, disagreements};
    use crate::checkout::checkout;

    #[test]
    fn everything_names_one_version() {
        let read = |file: &str| Ok(fs_err::read_to_string(checkout().join(file))?);
        assert_eq!(disagreements(read).unwrap(), Vec::<String>::new());
        let other = |file: &str| Ok(read(file)?.replace(VERSION, "9.9.9"));
        assert_eq!(disagreements(other).unwrap().len(), 3);
    }
}
