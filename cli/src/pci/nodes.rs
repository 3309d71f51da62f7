//! The files in `/dev` by which a function of a VFIO driver is opened.

use super::System;
use super::function::Function;

/// Returns the file of a function's group, whether it exists or not; `None` without IOMMU.
pub fn group(function: &Function) -> Option<String> {
    function.group.as_ref().map(|group| format!("/dev/vfio/{}", group.number))
}

/// Returns the character devices of a function, whether `/dev` has them or not.
pub fn devices(system: &System, function: &Function) -> Vec<String> {
    let names = system.names(function.bdf.directory().join("vfio-dev"));
    names.iter().map(|name| format!("/dev/vfio/devices/{name}")).collect()
}

/// Returns true if the kernel has a character device for a function, and `/dev` has it and iommufd.
pub fn has_device(system: &System, function: &Function) -> bool {
    let exists = |file: &String| exists(system, file);
    devices(system, function).iter().any(exists) && system.has("dev/iommu")
}

/// Returns the files of a function that `/dev` has, the group's first.
pub fn present(system: &System, function: &Function) -> Vec<String> {
    let mut files: Vec<String> = group(function).into_iter().collect();
    files.extend(devices(system, function));
    files.retain(|file| exists(system, file));
    files
}

fn exists(system: &System, file: &str) -> bool {
    system.has(file.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::{has_device, present};
    use crate::pci::System;
    use std::fs;

    #[test]
    fn a_character_device_needs_its_file_and_the_iommufd() {
        let root = tempfile::tempdir().unwrap();
        let at = |file: &str| root.path().join(file);
        let here = at("sys/bus/pci/devices/0000:01:00.0");
        fs::create_dir_all(here.join("vfio-dev/vfio3")).unwrap();
        for (file, text) in [("class", "0x010802"), ("vendor", "0x1"), ("device", "0x2")] {
            fs::write(here.join(file), text).unwrap();
        }
        let system = System::at(root.path());
        let function = system.function("01:00.0".parse().unwrap()).unwrap();
        assert!(!has_device(&system, &function));
        fs::create_dir_all(at("dev/vfio/devices/vfio3")).unwrap();
        assert!(!has_device(&system, &function));
        assert_eq!(present(&system, &function), ["/dev/vfio/devices/vfio3"]);
        fs::write(at("dev/iommu"), "").unwrap();
        assert!(has_device(&system, &function));
    }
}
