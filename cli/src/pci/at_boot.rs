//! Bindings that the machine makes when it boots: files that `vfio-irq bind --persist` or driverctl
//! has written.

use super::{Bdf, System};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

/// A file for a function at boot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct AtBoot {
    /// The driver that gets the function; null if the file names none, since it was edited.
    pub driver: Option<String>,
    /// The file.
    pub file: PathBuf,
    /// What the file contains.
    #[serde(skip)]
    pub text: String,
}

/// The program that keeps bindings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeper {
    /// driverctl: a file for each function, which contains the driver's name.
    Driverctl,
    /// udev: a rule for each function.
    Udev,
}

impl Keeper {
    /// Returns driverctl if it is installed, else udev.
    pub fn of(system: &System) -> Self {
        let rules = ["usr/lib", "lib"].map(|lib| format!("{lib}/udev/rules.d/05-driverctl.rules"));
        if rules.iter().any(|rules| system.has(rules)) { Self::Driverctl } else { Self::Udev }
    }

    /// Returns the file for a function. The rule comes before those that load drivers (80-drivers.rules).
    pub fn file(self, bdf: Bdf) -> String {
        match self {
            Self::Driverctl => format!("etc/driverctl.d/pci-{bdf}"),
            Self::Udev => format!("etc/udev/rules.d/05-vfio-irq-{bdf}.rules"),
        }
    }

    /// Returns the driver that a file of this keeper names.
    fn driver(self, text: &str) -> Option<String> {
        let name = match self {
            Self::Driverctl => text.trim(),
            Self::Udev => {
                let rule = text.lines().find(|line| !line.trim_start().starts_with('#'))?;
                rule.split_once(r#"ATTR{driver_override}=""#)?.1.split_once('"')?.0
            }
        };
        (!name.is_empty()).then(|| name.to_owned())
    }
}

/// Returns the files for a function at boot, also those that name no driver: they are replaced, removed
/// and put back as the others. The first is the one that counts.
pub fn all(system: &System, bdf: Bdf) -> Vec<AtBoot> {
    let keepers: &[Keeper] = match Keeper::of(system) {
        Keeper::Driverctl => &[Keeper::Driverctl, Keeper::Udev],
        // Without driverctl, its files do nothing.
        Keeper::Udev => &[Keeper::Udev],
    };
    let read = |keeper: &Keeper| {
        let file = system.path(keeper.file(bdf));
        let text = std::fs::read_to_string(&file).ok()?;
        Some(AtBoot { driver: keeper.driver(&text), file, text })
    };
    keepers.iter().filter_map(read).collect()
}

/// Returns the file that counts for a function at boot, if there is one.
pub fn of(system: &System, bdf: Bdf) -> Option<AtBoot> {
    all(system, bdf).into_iter().next()
}
