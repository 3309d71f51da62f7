//! The device that a command is about.

use crate::error::Error;
use crate::pci::{Bdf, System};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A PCI function as the command line names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FunctionName {
    /// The address of the function.
    Address(Bdf),
    /// The name of its device in the system: `eth0`, `nvme0`, `/dev/sda`.
    Device(String),
}

impl FromStr for FunctionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse();
        let name = text.strip_prefix("/dev/").unwrap_or(text);
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.@".contains(c);
        // A name that begins like an address and is not a valid one is reported as a wrong address.
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(plain)
            && !name.starts_with("pci_");
        match address {
            Ok(bdf) => Ok(Self::Address(bdf)),
            Err(_) if is_name => Ok(Self::Device(name.to_owned())),
            Err(error) => Err(format!("{error}, pci_0000_01_00_0, or a device's name, as eth0")),
        }
    }
}

impl FunctionName {
    /// Returns the address.
    ///
    /// # Errors
    ///
    /// If the system does not know the name, or the name belongs to no PCI function.
    pub fn find(&self, system: &System) -> Result<Bdf, Error> {
        let name = match self {
            Self::Address(bdf) => return Ok(*bdf),
            Self::Device(name) => name,
        };
        let classes = system.names("sys/class");
        let at = |class: &String| Path::new("sys/class").join(class).join(name);
        let Some(at) = classes.iter().map(at).find(|at| system.has(at)) else {
            let what = format!("there is no device {name}");
            let remedy = "an address (0000:01:00.0, 01:00.0, pci_0000_01_00_0) would be right, or a \
                          device's name (eth0, nvme0); `vfio-irq list --all` shows the addresses";
            return Err(Error::new(what, remedy).misunderstood());
        };
        let at = std::fs::canonicalize(system.path(at)).unwrap_or_default();
        let mut found: BTreeSet<Bdf> = function_of(&at).into_iter().collect();
        if found.is_empty() {
            // A disk of several NVMe controllers is in the directory beside them.
            let beside = at.parent().into_iter().flat_map(|at| {
                let entries = crate::pci::names(at).into_iter().map(|name| at.join(name));
                entries.filter(|entry| entry.is_symlink()).collect::<Vec<_>>()
            });
            found.extend(
                beside.filter_map(|entry| function_of(&std::fs::canonicalize(entry).ok()?)),
            );
        }
        match (found.first(), found.len()) {
            (Some(bdf), 1) => Ok(*bdf),
            (None, _) => {
                let remedy = "choose a device with an address, which `vfio-irq list --all` shows";
                Err(Error::new(format!("{name} belongs to no PCI function"), remedy)
                    .misunderstood())
            }
            _ => {
                let all: Vec<String> = found.iter().map(ToString::to_string).collect();
                let what = format!("{name} belongs to several PCI functions");
                Err(Error::new(what, format!("say which: {}", all.join(", "))).misunderstood())
            }
        }
    }
}

/// Returns the last PCI function in a path of sysfs.
fn function_of(path: &Path) -> Option<Bdf> {
    path.iter().rev().find_map(|part| part.to_str()?.parse().ok())
}

/// A device of any kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A PCI function of this machine.
    Pci(Bdf),
    /// A device that another process emulates: the path of its vfio-user socket.
    User(PathBuf),
    /// A device that this process emulates.
    Sim,
}

/// A device as the command line names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetName {
    /// A PCI function of this machine.
    Pci(FunctionName),
    /// A device that another process emulates.
    User(PathBuf),
    /// A device that this process emulates.
    Sim,
}

impl FromStr for TargetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "sim" {
            return Ok(Self::Sim);
        }
        match text.strip_prefix(USER) {
            Some("") => Err("there is no path behind vfio-user:".to_owned()),
            Some(path) => Ok(Self::User(path.into())),
            None if text.contains('/') && !text.starts_with("/dev/") => {
                Err(format!("{text} is a path: a socket would be {USER}{text}"))
            }
            None => text.parse().map(Self::Pci).map_err(|error| {
                format!("{error}; so would be vfio-user:PATH of a socket, and sim")
            }),
        }
    }
}

/// The prefix of a socket's path.
pub const USER: &str = "vfio-user:";

impl TargetName {
    /// Returns the device.
    ///
    /// # Errors
    ///
    /// As [`FunctionName::find`].
    pub fn find(&self, system: &System) -> Result<Target, Error> {
        Ok(match self {
            Self::Pci(name) => Target::Pci(name.find(system)?),
            Self::User(path) => Target::User(path.clone()),
            Self::Sim => Target::Sim,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(bdf) => bdf.fmt(f),
            Self::User(path) => write!(f, "{USER}{}", path.display()),
            Self::Sim => f.write_str("sim"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bdf, FunctionName, TargetName};

    #[test]
    fn addresses_are_read_in_all_forms() {
        let table = [
            ("0000:01:00.0", "0000:01:00.0"),
            ("01:1f.7", "0000:01:1f.7"),
            ("10000:E1:00.1", "10000:e1:00.1"),
            ("pci_0000_01_00_0", "0000:01:00.0"),
            ("pci_10000_e1_1f_7", "10000:e1:1f.7"),
        ];
        for (text, full) in table {
            assert_eq!(text.parse::<Bdf>().map(|bdf| bdf.to_string()), Ok(full.to_owned()));
        }
        let wrong =
            ["", ".", "01", "01:00", "1:00.0", "01:20.0", "01:00.8", "0:01:00.0", "+1:00.0"];
        for text in wrong.into_iter().chain(["pci_", "pci_0000_01_00", "pci_0000_01_20_0"]) {
            assert!(text.parse::<Bdf>().unwrap_err().contains("0000:01:00.0 would be"), "{text}");
            assert!(text.parse::<FunctionName>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_told_from_addresses() {
        for text in ["eth0", "nvme0", "/dev/nvme0n1", "enp1s0f0.5", "mlx5_0"] {
            let name = text.trim_start_matches("/dev/").to_owned();
            assert_eq!(text.parse(), Ok(FunctionName::Device(name)));
        }
        for text in ["/dev/mapper/x", "a b", "../eth0", "0eth"] {
            assert!(text.parse::<FunctionName>().unwrap_err().contains("as eth0"), "{text}");
        }
    }

    #[test]
    fn targets_are_told_apart() {
        assert_eq!("sim".parse(), Ok(TargetName::Sim));
        assert_eq!("vfio-user:/a b".parse(), Ok(TargetName::User("/a b".into())));
        let device = FunctionName::Device("simulated".to_owned());
        assert_eq!("simulated".parse(), Ok(TargetName::Pci(device)));
        assert!("vfio-user:".parse::<TargetName>().is_err());
        let socket = "/run/socket".parse::<TargetName>().unwrap_err();
        assert!(socket.ends_with("vfio-user:/run/socket"), "{socket}");
    }
}
