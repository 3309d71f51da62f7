//! Opens devices, to query and to measure them.

pub use super::ways::Opened;

use super::{VfToken, ways};
use crate::error::Error;
use crate::pci::function::{Abilities, Function};
use crate::pci::{System, holders, nodes, users};
use std::path::Path;
use uuid::Uuid;
use vfio_irq::{Capabilities, Index};
use vfio_irq_user::{Client, ClientOptions};

/// Opens a function that a VFIO driver has. The opener is its only user, and the function has been
/// reset.
///
/// # Errors
///
/// If it cannot be opened: the current user, or the missing condition.
pub fn open(system: &System, function: &Function, token: &VfToken) -> Result<Opened, Error> {
    let token = check(system, function, token)?;
    let bdf = function.bdf;
    ways::open(system, function, token).map_err(|error| {
        let what = format!("{bdf} cannot be opened: {error}");
        let remedy = match token {
            Some(_) if system.privileged => {
                "a VF token must be the one that the physical function was opened with".to_owned()
            }
            None if system.privileged && has_virtuals(function) => {
                "a user of one of its virtual functions may have it need the VF token: --vf-token UUID".to_owned()
            }
            _ => {
                let group = function.group.as_ref().map(|group| group.number.to_string());
                remedy(system, function, &group.unwrap_or_default())
            }
        };
        Error::new(what, remedy)
    })
}

/// Checks that a VFIO driver has a function, and that no process does. Returns the VF token with
/// which it is opened.
///
/// # Errors
///
/// The missing condition, or the process.
pub fn check(system: &System, function: &Function, token: &VfToken) -> Result<Option<Uuid>, Error> {
    let bdf = function.bdf;
    if !function.vfio {
        let driver = function.driver.as_deref().unwrap_or("no driver");
        let uses = users::of(system, bdf);
        let remedy = match uses.iter().find(|obstacle| !obstacle.forceable) {
            Some(obstacle) => format!("this machine uses it itself ({})", obstacle.what),
            None if function.group.is_none() => no_iommu(bdf).to_string(),
            None => format!("`vfio-irq bind {bdf}` hands it to user space"),
        };
        return Err(Error::new(
            format!("{bdf} is not bound to a VFIO driver ({driver} has it)"),
            remedy,
        ));
    }
    let group = function.group.as_ref().ok_or_else(|| no_iommu(bdf))?;
    if let Some(other) = group.others.iter().find(|other| !other.harmless) {
        let what = format!(
            "{} of the same IOMMU group {} is not bound to a VFIO driver",
            other.bdf, group.number
        );
        return Err(Error::new(
            what,
            format!("`vfio-irq bind {}`, or leave it without driver", other.bdf),
        ));
    }
    let holders = holders::of(system, function);
    if !holders.processes.is_empty() {
        let what = format!("{bdf} is in use by {}", holders.words());
        return Err(Error::new(what, "end that first: only one may have it"));
    }
    let token = token.of(function)?;
    if !system.is_real() {
        return Err(Error::plain(format!("{bdf} cannot be opened: it is not of this machine")));
    }
    Ok(token)
}

fn has_virtuals(function: &Function) -> bool {
    function.sriov.as_ref().is_some_and(|sriov| !sriov.virtuals().is_empty())
}

/// Returns what to do if neither way opens a device.
fn remedy(system: &System, function: &Function, group: &str) -> String {
    let (file, cdev) = (format!("dev/vfio/{group}"), nodes::has_device(system, function));
    if !system.has("dev/vfio/vfio") && !cdev {
        return "modprobe vfio_iommu_type1 brings /dev/vfio/vfio".to_owned();
    }
    if !system.has(&file) && !cdev {
        return format!(
            "there is no /{file}, which udev makes, and no /dev/vfio/devices with /dev/iommu"
        );
    }
    if !system.privileged {
        return format!("run this as root, or as who may open /{file}");
    }
    "it may be in use by a process of another PID namespace: see the kernel's log".to_owned()
}

/// Returns the error for a machine without IOMMU.
pub fn no_iommu(bdf: crate::pci::Bdf) -> Error {
    let remedy = "turn it on in the firmware and on the kernel's command line (intel_iommu=on, or amd_iommu=on)";
    Error::new(
        format!("{bdf} is in no IOMMU group: the machine has no IOMMU, or it is off"),
        remedy,
    )
}

/// Connects to a device that another process emulates.
///
/// # Errors
///
/// If no server answers.
pub fn connect(path: &Path) -> Result<Client, Error> {
    Client::connect(path, ClientOptions::default()).map_err(|error| {
        use vfio_irq_user::ClientError::{Broken, Connect};
        let remedy = match &error {
            Connect { .. } => {
                "is a server listening there? `vfio-irq serve nvme --socket PATH --size 64M` would"
            }
            Broken(_) => "it has a client already, perhaps: a device serves one at a time",
            _ => return Error::from(error),
        };
        Error::new(error.to_string(), remedy)
    })
}

/// Asks a function what it can do with vectors.
///
/// # Errors
///
/// If it cannot be opened.
pub fn abilities(system: &System, function: &Function) -> Result<Abilities, Error> {
    let device = open(system, function, &VfToken::default())?.device;
    let msix = Capabilities::of(&device, Index::Msix)?;
    let which = if msix.count() > 0 { msix } else { Capabilities::of(&device, Index::Msi)? };
    let dynamic = Some(which.resizable());
    Ok(Abilities { dynamic, maskable: Some(which.maskable()), source: "the device" })
}

#[cfg(test)]
mod tests {
    use super::remedy;
    use crate::pci::System;
    use std::fs;

    #[test]
    fn what_helps_depends_on_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let at = |file: &str| root.path().join(file);
        let here = at("sys/bus/pci/devices/0000:01:00.0");
        fs::create_dir_all(&here).unwrap();
        fs::create_dir_all(at("dev/vfio")).unwrap();
        for (file, text) in [("class", "0x010802"), ("vendor", "0x1"), ("device", "0x2")] {
            fs::write(here.join(file), text).unwrap();
        }
        let mut system = System::at(root.path());
        let function = system.function("01:00.0".parse().unwrap()).unwrap();
        assert!(remedy(&system, &function, "3").contains("modprobe"));
        fs::write(at("dev/vfio/vfio"), "").unwrap();
        assert!(remedy(&system, &function, "3").contains("no /dev/vfio/3"));
        fs::write(at("dev/vfio/3"), "").unwrap();
        assert!(remedy(&system, &function, "3").contains("in use"));
        system.privileged = false;
        assert!(remedy(&system, &function, "3").contains("run this as root"));
    }
}
