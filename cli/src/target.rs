//! What a command is about.

use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a PCI function: domain, bus, device, function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bdf {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for Bdf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
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
        read().ok_or_else(|| {
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

/// A device, wherever it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A PCI function of this machine.
    Pci(Bdf),
    /// A device that another process emulates: the path of its vfio-user socket.
    User(PathBuf),
    /// A device that this process makes up.
    Sim,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "sim" {
            return Ok(Self::Sim);
        }
        match text.strip_prefix("vfio-user:") {
            Some("") => Err("there is no path behind vfio-user:".to_owned()),
            Some(path) => Ok(Self::User(path.into())),
            None => text.parse().map(Self::Pci).map_err(|error| {
                format!("{error}; so would be vfio-user:PATH of a socket, and sim")
            }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(bdf) => bdf.fmt(f),
            Self::User(path) => write!(f, "vfio-user:{}", path.display()),
            Self::Sim => f.write_str("sim"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bdf, Target};

    #[test]
    fn addresses_are_read_in_both_forms() {
        let table = [("0000:01:00.0", "0000:01:00.0"), ("01:1f.7", "0000:01:1f.7")];
        for (text, full) in table.into_iter().chain([("10000:E1:00.1", "10000:e1:00.1")]) {
            assert_eq!(text.parse::<Bdf>().map(|bdf| bdf.to_string()), Ok(full.to_owned()));
        }
        for text in ["", ".", "01", "01:00", "1:00.0", "01:20.0", "01:00.8", "0:01:00.0", "+1:00.0"]
        {
            assert!(
                text.parse::<Bdf>().unwrap_err().contains("01:00.0 would be"[..7].trim()),
                "{text}"
            );
        }
    }

    #[test]
    fn targets_are_told_apart() {
        assert_eq!("sim".parse(), Ok(Target::Sim));
        assert_eq!("vfio-user:/a b".parse(), Ok(Target::User("/a b".into())));
        for text in ["simulated", "vfio-user:", "/run/socket"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
