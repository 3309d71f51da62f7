//! Names of devices, from the system's list pci.ids.

use super::System;
use std::collections::HashMap;

/// The paths of the list on different systems.
pub const FILES: [&str; 2] = ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"];

/// Vendors and devices by number. Empty on a system without the list.
#[derive(Clone, Debug, Default)]
pub struct Names {
    vendors: HashMap<u32, String>,
    devices: HashMap<(u32, u32), String>,
}

impl Names {
    /// Reads the list of a system.
    pub fn read(system: &System) -> Self {
        // The list is UTF-8, with exceptions in some editions.
        let list = FILES.iter().find_map(|file| std::fs::read(system.path(file)).ok());
        list.map_or_else(Self::default, |list| Self::parse(&String::from_utf8_lossy(&list)))
    }

    /// Parses lines: a vendor, followed by its devices, with a tab. Lines with two tabs are
    /// subsystems.
    fn parse(text: &str) -> Self {
        let mut names = Self::default();
        let mut vendor = None;
        for line in text.lines() {
            let entry = |line: &str| {
                let (number, name) = line.split_once("  ")?;
                let number = u32::from_str_radix(number, 16).ok().filter(|_| number.len() == 4)?;
                Some((number, name.trim().to_owned()))
            };
            match (line.strip_prefix('\t'), vendor) {
                (Some(below), Some(vendor)) if !below.starts_with('\t') => {
                    let device = entry(below).map(|(device, name)| ((vendor, device), name));
                    names.devices.extend(device);
                }
                (Some(_), _) => {}
                // Comments, and the classes at the end (`C 01  …`), are not vendors.
                (None, _) => {
                    let found = entry(line);
                    vendor = found.as_ref().map(|(vendor, _)| *vendor);
                    names.vendors.extend(found);
                }
            }
        }
        names
    }

    /// Returns the names of the vendor and the device.
    pub fn product(&self, vendor: u32, device: u32) -> Option<String> {
        let vendor_name = self.vendors.get(&vendor)?;
        Some(match self.devices.get(&(vendor, device)) {
            Some(device) => format!("{vendor_name} {device}"),
            None => format!("{vendor_name} device {device:04x}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn products_are_named_after_their_vendor() {
        let text = "# a list\n8086  Intel Corporation\n\t10c9  82576 Gigabit Network Connection\n\
                    \t\t8086 a03c  Gigabit ET Dual Port\n144d  Samsung Electronics Co Ltd\n\
                    C 01  Mass storage controller\n\t08  Non-Volatile memory controller\n";
        let names = Names::parse(text);
        let said = |vendor, device| names.product(vendor, device);
        let full = "Intel Corporation 82576 Gigabit Network Connection";
        assert_eq!(said(0x8086, 0x10c9).as_deref(), Some(full));
        assert_eq!(said(0x144d, 1).as_deref(), Some("Samsung Electronics Co Ltd device 0001"));
        assert_eq!(
            (said(0x8086, 0xa03c), said(1, 8)),
            (Some("Intel Corporation device a03c".into()), None)
        );
        assert_eq!(Names::default().product(0x8086, 0x10c9), None);
    }
}
