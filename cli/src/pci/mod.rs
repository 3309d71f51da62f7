//! The system's information about PCI functions and their interrupts, from sysfs and procfs.

pub mod blocks;
pub mod class;
pub mod config;
pub mod debugfs;
pub mod function;
pub mod holders;
pub mod interrupts;
pub mod modules;
pub mod names;
pub mod sriov;
pub mod users;
pub mod vfio;

use crate::error::Error;
use crate::target::Bdf;
use function::Function;
use names::Names;
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

    /// Returns every PCI function, in order.
    ///
    /// # Errors
    ///
    /// If the system shows no function.
    pub fn functions(&self) -> Result<Vec<Function>, Error> {
        let directory = self.path("sys/bus/pci/devices");
        let entries = fs::read_dir(&directory);
        let entries = entries.map_err(|error| Error::file("read", &directory, &error))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<Bdf> = names.filter_map(|name| name.parse().ok()).collect();
        all.sort_unstable();
        let names = Names::read(self);
        // A function that is unplugged meanwhile is omitted.
        let read = |bdf| Some(Function::read(self, bdf)?.named(&names));
        Ok(all.into_iter().filter_map(read).collect())
    }

    /// Returns one function.
    ///
    /// # Errors
    ///
    /// If it does not exist.
    pub fn function(&self, bdf: Bdf) -> Result<Function, Error> {
        let function = Function::read(self, bdf).ok_or_else(|| {
            let remedy = "`vfio-irq list --all` shows all that are there";
            Error::new(format!("there is no PCI function {bdf}"), remedy)
        })?;
        Ok(function.named(&Names::read(self)))
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
