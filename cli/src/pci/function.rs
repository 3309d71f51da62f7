//! One PCI function.

use super::config::{Offered, Unread};
use super::driver::{driver, is_vfio};
use super::names::Names;
use super::sriov::Sriov;
use super::vfio::Core;
use super::{Bdf, System, class, interrupts, link};
use crate::error::Error;
use schemars::JsonSchema;
use serde::Serialize;

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

/// The first version of Linux with dynamic MSI-X.
const DYNAMIC_SINCE: (u32, u32) = (6, 5);

impl Function {
    /// Reads a function. Returns `None` if it does not exist.
    pub fn read(system: &System, bdf: Bdf) -> Option<Self> {
        let directory = bdf.directory();
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

fn group(system: &System, bdf: Bdf) -> Option<Group> {
    let at = bdf.directory().join("iommu_group");
    let number = link(&system.path(&at))?.parse().ok()?;
    let members = system.names(at.join("devices"));
    let others = members.iter().filter_map(|name| name.parse().ok()).filter(|other| *other != bdf);
    let member = |other: Bdf| {
        let driver = driver(system, other);
        let class = system.text(other.directory().join("class")).unwrap_or_default();
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

impl System {
    /// Returns every PCI function, in order.
    ///
    /// # Errors
    ///
    /// If the system shows no function.
    pub fn functions(&self) -> Result<Vec<Function>, Error> {
        let directory = self.path("sys/bus/pci/devices");
        let entries = std::fs::read_dir(&directory);
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
