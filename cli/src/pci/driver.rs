//! The driver of a function.

use super::{Bdf, System, link, vfio};

/// Returns the driver of a function.
pub fn driver(system: &System, bdf: Bdf) -> Option<String> {
    link(&system.path(bdf.directory().join("driver")))
}

/// Returns true if a driver hands functions to user space: VFIO has a device for this function
/// (before Linux 6.1 it shows none), or the driver is a VFIO PCI driver.
pub fn is_vfio(system: &System, bdf: Bdf, driver: Option<&str>) -> bool {
    driver.is_some_and(|name| vfio::is_driver(system, name))
        || system.has(bdf.directory().join("vfio-dev"))
}
