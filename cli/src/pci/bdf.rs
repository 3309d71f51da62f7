//! The address of a PCI function.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The address of a PCI function: domain, bus, device, function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bdf {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl Bdf {
    /// Returns the directory of the function in sysfs.
    pub fn directory(self) -> PathBuf {
        Path::new("sys/bus/pci/devices").join(self.to_string())
    }
}

impl FromStr for Bdf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = |text: &str| {
            let (front, function) = text.rsplit_once('.')?;
            let (front, device) = front.rsplit_once(':')?;
            let (domain, bus) = front.rsplit_once(':').unwrap_or(("0000", front));
            let number = |text: &str, digits: std::ops::RangeInclusive<usize>, most: u32| {
                let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let fits = plain && digits.contains(&text.len());
                u32::from_str_radix(text, 16).ok().filter(|number| fits && *number <= most)
            };
            let small = |text, digits, most| u8::try_from(number(text, digits, most)?).ok();
            Some(Self {
                domain: number(domain, 4..=8, u32::MAX)?,
                bus: small(bus, 2..=2, 0xff)?,
                device: small(device, 2..=2, 0x1f)?,
                function: small(function, 1..=1, 7)?,
            })
        };
        // libvirt's spelling: pci_0000_01_00_0.
        let libvirt = text.strip_prefix("pci_").and_then(|text| {
            let (front, function) = text.rsplit_once('_')?;
            Some(format!("{}.{function}", front.replace('_', ":")))
        });
        read(libvirt.as_deref().unwrap_or(text)).ok_or_else(|| {
            format!("{text} is no address of a PCI function: 0000:01:00.0 would be, or 01:00.0")
        })
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl Serialize for Bdf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Bdf {
    fn schema_name() -> Cow<'static, str> {
        "Bdf".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}
