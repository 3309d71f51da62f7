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

/// The system's information about a function.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Function {
    /// PCI address of the function.
    pub bdf: Bdf,
    /// The kind of the function.
    pub what: &'static str,
    /// Name of vendor and device; `None` if the system has no list of names, or the list lacks this
    /// one.
    pub name: Option<String>,
    /// PCI class code.
    #[serde(skip)]
    pub class: u32,
    /// Vendor and device: `8086:10c9`.
    pub id: String,
    /// Vendor and device as numbers.
    #[serde(skip)]
    pub ids: (u32, u32),
    /// The driver of the function.
    pub driver: Option<String>,
    /// Whether that driver hands it to user space.
    pub vfio: bool,
    /// The IOMMU group; `None` without IOMMU.
    pub group: Option<Group>,
    /// The interrupts in its configuration space; `None` if that cannot be read.
    pub offered: Option<Offered>,
    /// Why configuration space cannot be read.
    #[serde(skip)]
    pub unread: Option<Unread>,
    /// Role of the function in SR-IOV; `None` if the function has none.
    pub sriov: Option<Sriov>,
    /// Vectors that the system has allocated for it.
    pub allocated: u32,
    /// Vectors with a handler.
    pub in_use: u32,
    /// What its driver can do with vectors, which the loaded vfio-pci-core decides.
    pub abilities: Abilities,
}

/// An IOMMU group: functions that the IOMMU cannot isolate from each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Group {
    /// Number of the group.
    pub number: u32,
    /// The other functions in it.
    pub others: Vec<Member>,
}

/// Another function of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Member {
    /// PCI address of the function.
    pub bdf: Bdf,
    /// The driver of the function.
    pub driver: Option<String>,
    /// Whether user space may have the group in spite of this function.
    pub harmless: bool,
}

/// The abilities for vectors of MSI-X, or of MSI if there is no MSI-X.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Abilities {
    /// Vectors can be added while others are in use.
    pub dynamic: Option<bool>,
    /// Vectors can be masked.
    pub maskable: Option<bool>,
    /// Source of this knowledge.
    pub source: &'static str,
}

/// Returns the directory of a function in sysfs.
pub fn directory(bdf: Bdf) -> PathBuf {
    Path::new("sys/bus/pci/devices").join(bdf.to_string())
}

/// The first version of Linux with dynamic MSI-X.
const DYNAMIC_SINCE: (u32, u32) = (6, 5);

impl Function {
    /// Reads a function. Returns `None` if it does not exist.
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

    /// Returns the function with its name.
    pub fn named(self, names: &Names) -> Self {
        Self { name: names.product(self.ids.0, self.ids.1), ..self }
    }

    /// Returns true if the function has, or may have, MSI or MSI-X.
    pub fn has_vectors(&self) -> bool {
        self.offered.is_none_or(|offered| offered.msi + offered.msix > 0)
    }
}

/// Returns the driver of a function.
pub fn driver(system: &System, bdf: Bdf) -> Option<String> {
    link(&system.path(directory(bdf).join("driver")))
}

/// Returns true if a driver hands functions to user space: VFIO has a device for this function
/// (before Linux 6.1 it shows none), or the driver is a VFIO PCI driver.
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

/// Returns what a VFIO driver can do, as far as it is known without opening the device.
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
