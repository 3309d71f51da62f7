//! Who has a device open.

use super::{System, function::Function, names};
use schemars::JsonSchema;
use serde::Serialize;

/// A process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// What could be found out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, JsonSchema)]
pub struct Holders {
    /// Who has the function, or its group, open.
    pub processes: Vec<Holder>,
    /// Whether the files of every process could be looked at.
    pub complete: bool,
}

impl Holders {
    /// Their names, as a list in a sentence.
    pub fn words(&self) -> String {
        let names: Vec<String> = self.processes.iter().map(ToString::to_string).collect();
        names.join(", ")
    }
}

/// Looks for processes that have a function's group or character device open.
pub fn of(system: &System, function: &Function) -> Holders {
    let mut files = Vec::new();
    if let Some(group) = &function.group {
        files.push(format!("/dev/vfio/{}", group.number));
        files.push(format!("/dev/vfio/noiommu-{}", group.number));
    }
    let devices = system.names(super::function::directory(function.bdf).join("vfio-dev"));
    files.extend(devices.iter().map(|device| format!("/dev/vfio/devices/{device}")));
    let mut found = Holders { complete: true, ..Holders::default() };
    for pid in system.names("proc").iter().filter_map(|name| name.parse::<u32>().ok()) {
        let directory = system.path(format!("proc/{pid}/fd"));
        if std::fs::read_dir(&directory).is_err() {
            // It may have ended; if it has not, it is not ours to look at.
            found.complete &= !directory.exists() && !system.has(format!("proc/{pid}"));
            continue;
        }
        let held = names(&directory).iter().any(|fd| {
            let file = std::fs::read_link(directory.join(fd));
            file.is_ok_and(|file| files.iter().any(|known| file.as_os_str() == known.as_str()))
        });
        if held {
            let name = system.text(format!("proc/{pid}/comm")).unwrap_or_default();
            found.processes.push(Holder { pid, name });
        }
    }
    found
}
