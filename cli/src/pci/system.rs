//! The files of the system: sysfs, procfs, and the root below which they are.

use std::fs;
use std::path::{Path, PathBuf};

/// The system whose files are read: this machine, or a tree that a test made.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
    /// Whether the user may change the drivers of functions.
    pub privileged: bool,
}

impl System {
    /// Creates the system whose `/sys`, `/proc` and `/dev` are below `root`.
    pub fn at(root: &Path) -> Self {
        let real = root == Path::new("/");
        Self { root: root.to_owned(), privileged: !real || rustix::process::geteuid().is_root() }
    }

    /// Returns true if it is this machine, whose devices can be opened.
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Returns the path of a file.
    pub fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.root.join(file)
    }

    /// Returns a file's text without surrounding white space; `None` if it cannot be read.
    pub fn text(&self, file: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.path(file)).ok().map(|text| text.trim().to_owned())
    }

    /// Returns the names in a directory, in order; none if the directory does not exist.
    pub fn names(&self, directory: impl AsRef<Path>) -> Vec<String> {
        names(&self.path(directory))
    }

    /// Returns true if a file exists.
    pub fn has(&self, file: impl AsRef<Path>) -> bool {
        self.path(file).exists()
    }

    /// Returns the version of the kernel: `7.3` of `7.3.4-amd64`.
    pub fn kernel(&self) -> Option<(u32, u32)> {
        let text = self.text("proc/sys/kernel/osrelease")?;
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

/// Returns the names in a directory, in order.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Returns the last part of a link's target.
pub fn link(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}
