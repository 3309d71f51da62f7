//! Finds the obstacles to binding a function to a VFIO driver.

use crate::error::Obstacle;
use crate::pci::function::{Function, Member};
use crate::pci::sriov::Sriov;
use crate::pci::{System, at_boot, class, holders, users, vfio};

/// Finds every obstacle to a bind, before anything is changed. Returns the obstacles.
pub fn before_bind(system: &System, function: &Function, wanted: &str) -> Vec<Obstacle> {
    let mut found = Vec::new();
    found.extend(privilege(system));
    if class::is_bridge(function.class) {
        let what = format!("{} is a {}", function.bdf, function.what);
        found.push(never(what, "hand over what is behind it instead"));
    }
    if function.group.is_none() {
        let error = crate::info::device::no_iommu(function.bdf);
        found.push(never(error.what, error.remedy.unwrap_or_default()));
    }
    found.extend(unfit(system, wanted));
    found.extend(held(system, function));
    found.extend(users::of(system, function.bdf));
    found.extend(virtuals(system, function));
    let group = function.group.iter();
    // At boot, the functions of a group are bound one after the other.
    let kept = |bdf| at_boot::of(system, bdf).is_some_and(|file| file.driver.is_some());
    let harmless = |other: &&Member| other.harmless || kept(other.bdf);
    for other in group.flat_map(|group| &group.others).filter(|other| !harmless(other)) {
        let driver = other.driver.as_deref().unwrap_or_default();
        let what = format!("{} of the same IOMMU group is bound to {driver}", other.bdf);
        let remedy = format!(
            "user space gets all of a group or nothing: bind {} too, and use --force for the first of them",
            other.bdf
        );
        found.push(Obstacle { what, remedy, forceable: true });
    }
    found
}

/// Finds every obstacle to an unbind. Returns the obstacles.
pub fn before_unbind(system: &System, function: &Function) -> Vec<Obstacle> {
    let mut found = Vec::from_iter(privilege(system));
    found.extend(held(system, function));
    found.extend(virtuals(system, function));
    found
}

/// Finds the virtual functions of a physical function, and their users. When the driver is unbound,
/// the kernel deletes the virtual functions without asking their users.
fn virtuals(system: &System, function: &Function) -> Vec<Obstacle> {
    let virtuals = function.sriov.as_ref().map_or(&[][..], Sriov::virtuals);
    if virtuals.is_empty() {
        return Vec::new();
    }
    let bdf = function.bdf;
    let mut users = Vec::new();
    let names = virtuals.iter().map(|bdf| {
        let Some(vf) = Function::read(system, *bdf) else { return bdf.to_string() };
        users.extend(held(system, &vf));
        users.extend(users::of(system, *bdf));
        format!("{bdf} ({})", vf.driver.as_deref().unwrap_or("no driver"))
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let all = Obstacle {
        what: format!("the virtual functions of {bdf} end with its driver: {names}"),
        remedy: format!(
            "echo 0 > {}, once nothing needs them",
            system.path(bdf.directory()).join("sriov_numvfs").display()
        ),
        forceable: true,
    };
    std::iter::once(all).chain(users).collect()
}

fn never(what: impl Into<String>, remedy: impl Into<String>) -> Obstacle {
    Obstacle { what: what.into(), remedy: remedy.into(), forceable: false }
}

/// Checks that the driver is loaded and hands functions to user space. Returns the obstacle.
fn unfit(system: &System, wanted: &str) -> Option<Obstacle> {
    let loaded = vfio::drivers(system).join(", ");
    if !vfio::has_driver(system, wanted) {
        let what = format!("the driver {wanted} is not loaded");
        let mut remedy = format!("modprobe {wanted}");
        if !loaded.is_empty() {
            remedy += &format!(", or choose a VFIO PCI driver that is loaded: {loaded}");
        }
        return Some(never(what, remedy));
    }
    if vfio::is_driver(system, wanted) {
        return None;
    }
    let remedy = match loaded.is_empty() {
        true => format!("modprobe {}", vfio::DRIVER),
        false => format!("choose one that is loaded: {loaded}"),
    };
    Some(never(format!("{wanted} is no VFIO PCI driver"), remedy))
}

/// Checks that the user is root, which a change of drivers needs. Returns the obstacle.
pub fn privilege(system: &System) -> Option<Obstacle> {
    (!system.privileged).then(|| never("only root may change drivers", "run this as root"))
}

/// Checks whether user space has the function open: the kernel then requests it back and waits.
/// Returns the obstacle.
fn held(system: &System, function: &Function) -> Option<Obstacle> {
    if !function.vfio {
        return None;
    }
    let holders = holders::of(system, function);
    (!holders.processes.is_empty()).then(|| Obstacle {
        what: format!("{} is in use by {}", function.bdf, holders.words()),
        remedy: "end that first".to_owned(),
        forceable: true,
    })
}

#[cfg(test)]
mod tests {
    use super::privilege;
    use crate::pci::System;

    #[test]
    fn who_is_not_root_is_told_so() {
        let mut system = System::at("/nowhere".as_ref());
        assert_eq!(privilege(&system), None);
        system.privileged = false;
        let obstacle = privilege(&system).unwrap();
        assert_eq!((obstacle.remedy.as_str(), obstacle.forceable), ("run this as root", false));
    }
}
