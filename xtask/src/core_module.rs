//! `cargo xtask core`: builds vfio-pci-core.ko, with its interrupts in Rust, for a stock kernel.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::checkout::checkout;
use crate::error::{Error, Result};
use crate::lab::cache::{Cache, hash};
use crate::lab::kernel::{Series, Tree};
use crate::lab::process::follow;

/// The module's file name, the same as that of the module it replaces.
pub const MODULE: &str = "vfio-pci-core.ko";

/// Builds the core for `series`. Returns its path.
pub fn build(cache: &Cache, series: Series) -> Result<PathBuf> {
    build_from(cache, series, checkout())
}

/// As [`build`], from another directory that has `kernel/` and `engine/src/`.
pub fn build_from(cache: &Cache, series: Series, source: &Path) -> Result<PathBuf> {
    let tree = Tree::obtain(cache, series)?;
    // Each checkout has a stage of its own, so that two checkouts that share the cache do not undo
    // each other's builds.
    let name = format!("build-{}-{}", tree.kernel().release, hash(&source.display().to_string()));
    let stage = cache.scratch(&name)?;
    let lock = cache.lock_file(&name)?;
    lock.lock()?;
    copy_sources(source, &stage)?;
    let release = tree.kernel().release.clone();
    follow(tree.make(&stage)?, &format!("building {MODULE} for {release}"), |line| {
        // The routine lines of a build are hidden; the compiler's messages are shown.
        if !is_routine(line) {
            eprintln!("{line}");
        }
    })
    .map_err(|error| match error {
        // The compiler's messages were shown as they came.
        Error::Failed { what, status, .. } => {
            let output = format!(
                "What is above says why. A kernel whose vfio-pci-core differs from the one of Linux 7.3 \
                 (drivers/vfio/pci/vfio_pci_priv.h) needs changes in kernel/ first; {release} may be one."
            );
            Error::Failed { what, status, output }
        }
        other => other,
    })?;
    let module = stage.join(MODULE);
    if module.is_file() {
        return Ok(module);
    }
    Err(Error::other(format!("the build made no {MODULE}: kernel/Kbuild must name it")))
}

fn is_routine(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("make")
        || line.starts_with("Skipping BTF")
        || ["CC ", "LD ", "RUSTC ", "MODPOST ", "BTF ", "EXPORTS ", "BINDGEN ", "UPD "].iter().any(
            |word| {
                line.strip_prefix(word.trim_end())
                    .is_some_and(|rest| rest.starts_with(' ') || rest.starts_with(" [M]"))
            },
        )
}

/// Updates the stage. Writes only files that differ, so that a rebuild is incremental.
pub fn copy_sources(source: &Path, stage: &Path) -> Result<()> {
    let kbuild = source.join("kernel/Kbuild");
    if !kbuild.is_file() {
        return Err(Error::other(format!(
            "there is no {}: the core's build needs it",
            kbuild.display()
        )));
    }
    copy_if_changed(&kbuild, &stage.join("Kbuild"))?;
    for dir in ["kernel", "engine/src"] {
        copy_tree(&source.join(dir), &stage.join(dir))?;
    }
    Ok(())
}

/// Returns true if the build itself writes this file beside the sources in the stage.
fn is_made_by_build(name: &str) -> bool {
    let ends = [".o", ".ko", ".cmd", ".mod", ".mod.c", ".rmeta", ".d", ".symvers", ".order", ".a"];
    name.starts_with('.')
        || name.contains("generated")
        || ends.iter().any(|end| name.ends_with(end))
}

/// Copies the files of a directory that differ, and removes files that it does not have any more.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut wanted = BTreeSet::new();
    for entry in fs::read_dir(from)?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if is_made_by_build(&name.to_string_lossy()) {
            continue;
        }
        if path.is_dir() {
            copy_tree(&path, &to.join(&name))?;
        } else {
            copy_if_changed(&path, &to.join(&name))?;
        }
        wanted.insert(name);
    }
    for entry in fs::read_dir(to)?.flatten() {
        let name = entry.file_name();
        let is_source = name.to_string_lossy().ends_with(".rs");
        if is_source && !is_made_by_build(&name.to_string_lossy()) && !wanted.contains(&name) {
            let path = entry.path();
            // The build generates a missing .rs file again.
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from)?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    Ok(fs::write(to, new)?)
}
