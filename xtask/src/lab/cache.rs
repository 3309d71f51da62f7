//! Keeps the results of slow work between runs. Each has a directory named after a hash of its
//! inputs. A directory is complete or absent, never partial.

use std::path::{Path, PathBuf};

use fs_err::{self as fs, File};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The file in each made directory that names its inputs.
const MADE_FROM: &str = ".made-from";

/// The lab's directory, outside the checkout.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// A complete directory of the cache. It is locked against removal while this value lives.
#[derive(Debug)]
pub struct Made {
    path: PathBuf,
    made_from: String,
    _lock: File,
}

impl Made {
    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the text of its inputs, which changes when an input does.
    pub fn made_from(&self) -> &str {
        &self.made_from
    }
}

impl Cache {
    /// Opens the cache of this user: `$VFIO_IRQ_LAB`, else `vfio-irq` in the user's cache
    /// directory.
    pub fn open() -> Result<Self> {
        let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let dir = from("VFIO_IRQ_LAB")
            .or_else(|| from("XDG_CACHE_HOME").map(|d| d.join("vfio-irq")))
            .or_else(|| from("HOME").map(|d| d.join(".cache/vfio-irq")))
            .ok_or_else(|| Error::other("none of VFIO_IRQ_LAB, XDG_CACHE_HOME and HOME is set: set VFIO_IRQ_LAB to a directory for the lab"))?;
        fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        Ok(Self { dir })
    }

    /// Returns a directory in the cache for files that may be lost at any time.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Opens a lock file of the cache, unlocked.
    pub fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.dir.join(format!("{name}.lock"));
        Ok(File::options().create(true).truncate(false).write(true).open(path)?)
    }

    /// Finds the directory `name` made by `recipe`, or has `make` fill it. Returns it.
    ///
    /// `make` gets an empty directory and returns the packages and versions it used. Two
    /// processes never make the same directory at once, and no process sees it before it is
    /// complete.
    pub fn obtain(
        &self,
        name: &str,
        recipe: &str,
        make: impl FnOnce(&Path) -> Result<Vec<String>>,
    ) -> Result<Made> {
        let recipe = hash(recipe);
        let lock = self.lock_file(name)?;
        lock.lock_shared()?;
        if let Some((path, made_from)) = self.find(name, &recipe) {
            return Ok(Made { path, made_from, _lock: lock });
        }
        lock.unlock()?;
        if lock.try_lock().is_err() {
            eprintln!("lab: waiting for another process that is making or using {name} …");
            lock.lock()?;
        }
        if self.find(name, &recipe).is_none() {
            self.make(name, &recipe, make)?;
        }
        lock.unlock()?;
        lock.lock_shared()?;
        let (path, made_from) = self.find(name, &recipe).ok_or_else(|| {
            Error::other(format!(
                "{name} was removed from the cache while it was being used; try again"
            ))
        })?;
        Ok(Made { path, made_from, _lock: lock })
    }

    fn make(
        &self,
        name: &str,
        recipe: &str,
        make: impl FnOnce(&Path) -> Result<Vec<String>>,
    ) -> Result<()> {
        let unfinished = self.dir.join(format!("{name}.unfinished"));
        remove_tree(&unfinished)?;
        fs::create_dir_all(&unfinished)?;
        let mut packages = make(&unfinished)?;
        packages.sort();
        let made_from = format!("{recipe}\n{}\n", packages.join("\n"));
        let note = unfinished.join(MADE_FROM);
        fs::write(&note, &made_from)?;
        for old in self.made_dirs(name) {
            remove_tree(&old)?;
        }
        let path = self.dir.join(format!("{name}-{}", hash(&made_from)));
        Ok(fs::rename(&unfinished, path)?)
    }

    fn find(&self, name: &str, recipe: &str) -> Option<(PathBuf, String)> {
        self.made_dirs(name).into_iter().find_map(|path| {
            let made_from = fs::read_to_string(path.join(MADE_FROM)).ok()?;
            (made_from.lines().next() == Some(recipe)).then_some((path, made_from))
        })
    }

    fn made_dirs(&self, name: &str) -> Vec<PathBuf> {
        let prefix = format!("{name}-");
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let is_made = |path: &PathBuf| {
            let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            // The rest must be a hash alone: `kernel-6.1` is not a prefix of `kernel-6.12-…`.
            file.strip_prefix(&prefix)
                .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        entries.flatten().map(|entry| entry.path()).filter(is_made).collect()
    }

    /// Removes every made directory that is not in use. Returns the names of those in use.
    pub fn clean(&self) -> Result<Vec<String>> {
        let mut kept = Vec::new();
        let entries = fs::read_dir(&self.dir)?;
        let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        let mut locks = Vec::new();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "lock")) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let lock = self.lock_file(&name)?;
            if lock.try_lock().is_err() {
                kept.push(name);
            }
            locks.push(lock);
        }
        for path in paths.iter().filter(|path| path.extension().is_none_or(|e| e != "lock")) {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            // While a directory is in use, guests may write their logs.
            if file == "runs" && !kept.is_empty() {
                continue;
            }
            if !kept.iter().any(|name| file.starts_with(name.as_str())) {
                remove_tree(path)?;
            }
        }
        Ok(kept)
    }
}

/// Returns sixteen hexadecimal digits that identify `text`.
pub fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Removes a file or a tree that may be absent.
pub fn remove_tree(path: &Path) -> Result<()> {
    let removed = if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
