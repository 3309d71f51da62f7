//! Single-root I/O virtualization: physical functions (PF) and their virtual functions (VF).

use super::driver::{driver, is_vfio};
use super::{System, link};
use crate::pci::Bdf;
use schemars::JsonSchema;
use serde::Serialize;

/// A function's role in SR-IOV.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Sriov {
    /// A physical function.
    Physical {
        /// Enabled virtual functions.
        virtuals: Vec<Bdf>,
        /// The maximum number of virtual functions.
        most: u32,
    },
    /// A virtual function.
    Virtual {
        /// The address of its physical function.
        physical: Bdf,
        /// Whether VFIO has the physical function, so that this function needs the VF token.
        needs_token: bool,
    },
}

impl Sriov {
    /// Reads the role of a function. Returns `None` if it has none.
    pub fn read(system: &System, bdf: Bdf) -> Option<Self> {
        let at = bdf.directory();
        let parent = link(&system.path(at.join("physfn"))).and_then(|name| name.parse().ok());
        if let Some(physical) = parent {
            let driver = driver(system, physical);
            let needs_token = is_vfio(system, physical, driver.as_deref());
            return Some(Self::Virtual { physical, needs_token });
        }
        let most = system.text(at.join("sriov_totalvfs"))?.parse().ok()?;
        let names = system.names(&at);
        let names = names.iter().filter(|name| name.starts_with("virtfn"));
        let target = |name| link(&system.path(at.join(name)))?.parse().ok();
        let mut virtuals: Vec<Bdf> = names.filter_map(target).collect();
        virtuals.sort_unstable();
        Some(Self::Physical { virtuals, most })
    }

    /// Formats the role: `virtual function of 0000:01:00.0`.
    pub fn words(&self) -> String {
        match self {
            Self::Physical { virtuals, most } => {
                format!("{} of {most} virtual functions", virtuals.len())
            }
            Self::Virtual { physical, needs_token: false } => {
                format!("virtual function of {physical}")
            }
            Self::Virtual { physical, needs_token: true } => {
                format!("virtual function of {physical}, opens with its VF token")
            }
        }
    }

    /// Returns the virtual functions that disappear when the driver of this function changes.
    pub fn virtuals(&self) -> &[Bdf] {
        match self {
            Self::Physical { virtuals, .. } => virtuals,
            Self::Virtual { .. } => &[],
        }
    }
}
