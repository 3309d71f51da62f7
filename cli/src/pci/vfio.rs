//! VFIO in the kernel: the loaded vfio-pci-core, and the drivers based on it.

use super::{System, link, modules};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// The default driver.
pub const DRIVER: &str = "vfio-pci";

/// How to replace the core in C. Unloading fails while a function of vfio-pci is open.
pub const REPLACE: &str = "the package vfio-pci-core-rs-dkms has the Rust core (`cargo xtask core` builds it from \
                           the sources); after that: modprobe -r vfio-pci vfio-pci-core && modprobe vfio-pci";

/// A vfio-pci-core. Every VFIO PCI driver of the machine uses the one that is loaded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Core {
    /// This project's build of it, with its interrupts in Rust.
    Rust {
        /// For the Rust core, its name and version: `vfio-irq 0.1.0`.
        version: String,
    },
    /// Linux's core, all of it in C.
    C,
}

impl Core {
    /// Returns the loaded core; `None` without a VFIO PCI driver.
    pub fn read(system: &System) -> Option<Self> {
        // The core in C has no version.
        let version = system.text("sys/module/vfio_pci_core/version");
        match version.filter(|version| version.starts_with("vfio-irq")) {
            Some(version) => Some(Self::Rust { version }),
            None => is_loaded(system).then_some(Self::C),
        }
    }

    /// Returns true if the core masks single vectors, and counts events of vectors.
    pub fn is_rust(&self) -> bool {
        matches!(self, Self::Rust { .. })
    }
}

impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rust { version } => f.write_str(version),
            Self::C => f.write_str("Linux's own"),
        }
    }
}

/// Formats a core as text.
pub fn words(core: Option<&Core>) -> String {
    core.map_or_else(|| "not loaded".to_owned(), ToString::to_string)
}

/// Returns true if a core is loaded. A built-in core has no directory, nor does a core before Linux
/// 5.15; there the drivers are the evidence.
fn is_loaded(system: &System) -> bool {
    modules::is_loaded(system, "vfio_pci_core") || !drivers(system).is_empty()
}

/// Lists the VFIO PCI drivers that are loaded, in order.
pub fn drivers(system: &System) -> Vec<String> {
    let mut names = system.names(DRIVERS);
    names.retain(|name| is_driver(system, name));
    names
}

const DRIVERS: &str = "sys/bus/pci/drivers";

/// Returns true if a driver is loaded.
pub fn has_driver(system: &System, name: &str) -> bool {
    system.has(Path::new(DRIVERS).join(name))
}

/// Returns true for a VFIO PCI driver: its module uses vfio-pci-core, or its name says so, as a driver
/// has no module if it is built in.
pub fn is_driver(system: &System, name: &str) -> bool {
    if name.ends_with("vfio-pci") || name.ends_with("vfio_pci") {
        return true;
    }
    let module = link(&system.path(Path::new(DRIVERS).join(name).join("module")));
    let users = Path::new("sys/module/vfio_pci_core/holders");
    module.is_some_and(|module| system.has(users.join(module)))
}
