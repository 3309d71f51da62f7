//! One PCI function.

use super::config::{Offered, Unread};
use super::names::Names;
use super::sriov::Sriov;
use super::vfio::{self, Core};
use super::{System, class, interrupts, link};
use crate::target::Bdf;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What the system says of a function.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Function {
    /// Its address.
    pub bdf: Bdf,
    /// What it is.
    pub what: &'static str,
    /// Its name and its vendor's; `None` when the system has no list of names, or not this one.
    pub name: Option<String>,
    /// Its class code.
    #[serde(skip)]
    pub class: u32,
    /// Vendor and device: `8086:10c9`.
    pub id: String,
    /// The same as numbers.
    #[serde(skip)]
    pub ids: (u32, u32),
    /// The driver that has it.
    pub driver: Option<String>,
    /// Whether that driver hands it to user space.
    pub vfio: bool,
    /// Its IOMMU group; `None` without IOMMU.
    pub group: Option<Group>,
    /// What its configuration space offers; `None` when that cannot be read.
    pub offered: Option<Offered>,
    /// Why it cannot be read.
    #[serde(skip)]
    pub unread: Option<Unread>,
    /// Its part in SR-IOV; `None` for a function that has none.
    pub sriov: Option<Sriov>,
    /// Vectors that the system has allocated for it.
    pub allocated: u32,
    /// Vectors that have a handler.
    pub in_use: u32,
    /// What its driver can do with vectors, which is what the loaded vfio-pci-core can do.
    pub abilities: Abilities,
}

/// An IOMMU group: functions that cannot be kept apart.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Group {
    /// Its number.
    pub number: u32,
    /// The other functions in it.
    pub others: Vec<Member>,
}

/// Another function of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Member {
    /// Its address.
    pub bdf: Bdf,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Whether user space may have the group in spite of it.
    pub harmless: bool,
}

/// What can be done with vectors of MSI-X, or of MSI where there is no MSI-X.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Abilities {
    /// Vectors are added while others run.
    pub dynamic: Option<bool>,
    /// Vectors can be masked.
    pub maskable: Option<bool>,
    /// Where that is known from.
    pub source: &'static str,
}

/// Where a function is in sysfs.
pub fn directory(bdf: Bdf) -> PathBuf {
    Path::new("sys/bus/pci/devices").join(bdf.to_string())
}

/// Linux adds vectors of MSI-X to those in use from here on.
const DYNAMIC_SINCE: (u32, u32) = (6, 5);

impl Function {
    /// Reads it; `None` when there is none.
    pub fn read(system: &System, bdf: Bdf) -> Option<Self> {
        let directory = directory(bdf);
        let number = |file: &str| {
            let text = system.text(directory.join(file))?;
            u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        };
        let class = number("class")?;
        let ids = (number("vendor")?, number("device")?);
        let driver = driver(system, bdf);
        let config = std::fs::read(system.path(directory.join("config"))).unwrap_or_default();
        let (offered, unread) = match Offered::read(&config) {
            Ok(offered) => (Some(offered), None),
            Err(unread) => (None, Some(unread)),
        };
        let irqs = interrupts::of(system, bdf);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let in_use = irqs.iter().filter(|irq| irq.handler.is_some()).count();
        let vfio = is_vfio(system, bdf, driver.as_deref());
        let abilities = abilities(system, vfio, offered);
        Some(Self {
            bdf,
            what: class::name(class),
            class,
            name: None,
            id: format!("{:04x}:{:04x}", ids.0, ids.1),
            ids,
            vfio,
            group: group(system, bdf),
            offered,
            unread,
            sriov: Sriov::read(system, bdf),
            allocated: count(irqs.len()),
            in_use: count(in_use),
            abilities,
            driver,
        })
    }

    /// The function with its name.
    pub fn named(self, names: &Names) -> Self {
        Self { name: names.product(self.ids.0, self.ids.1), ..self }
    }

    /// Whether it has, or may have, interrupts that are messages.
    pub fn has_vectors(&self) -> bool {
        self.offered.is_none_or(|offered| offered.msi + offered.msix > 0)
    }
}

/// The driver that has a function.
pub fn driver(system: &System, bdf: Bdf) -> Option<String> {
    link(&system.path(directory(bdf).join("driver")))
}

/// Whether a driver hands functions to user space: VFIO has a device for this one (before Linux 6.1 it
/// shows none), or it is a VFIO PCI driver.
pub fn is_vfio(system: &System, bdf: Bdf, driver: Option<&str>) -> bool {
    driver.is_some_and(|name| vfio::is_driver(system, name))
        || system.has(directory(bdf).join("vfio-dev"))
}

fn group(system: &System, bdf: Bdf) -> Option<Group> {
    let at = directory(bdf).join("iommu_group");
    let number = link(&system.path(&at))?.parse().ok()?;
    let members = system.names(at.join("devices"));
    let others = members.iter().filter_map(|name| name.parse().ok()).filter(|other| *other != bdf);
    let member = |other: Bdf| {
        let driver = driver(system, other);
        let class = system.text(directory(other).join("class")).unwrap_or_default();
        let class = u32::from_str_radix(class.trim_start_matches("0x"), 16).unwrap_or(0);
        let harmless = driver.as_deref().is_none_or(|name| name == "pci-stub")
            || class::is_bridge(class)
            || is_vfio(system, other, driver.as_deref());
        Member { bdf: other, driver, harmless }
    };
    Some(Group { number, others: others.map(member).collect() })
}

/// What a VFIO driver can do, as far as that is known without opening the device.
fn abilities(system: &System, vfio: bool, offered: Option<Offered>) -> Abilities {
    if !vfio {
        return Abilities { dynamic: None, maskable: None, source: "no VFIO driver has it" };
    }
    let has_msix = offered.map(|offered| offered.msix > 0);
    let is_newer = system.kernel().map(|kernel| kernel >= DYNAMIC_SINCE);
    let dynamic = match (has_msix, is_newer) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), is_newer) => is_newer,
        (None, _) => None,
    };
    let maskable = match Core::read(system) {
        Some(core) if core.is_rust() => {
            offered.map(|offered| offered.msix > 0 || offered.msi_masks)
        }
        _ => Some(false),
    };
    Abilities { dynamic, maskable, source: "vfio-pci-core and the kernel's version" }
}
