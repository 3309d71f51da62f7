//! Finds the processes that have a device open.

use super::function::Function;
use super::{System, names, nodes};
use schemars::JsonSchema;
use serde::Serialize;

/// A process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Holder {
    /// The process ID.
    pub pid: u32,
    /// The name of the process.
    pub name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The result of the search.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, JsonSchema)]
pub struct Holders {
    /// The processes that have the function, or its group, open.
    pub processes: Vec<Holder>,
    /// Whether the files of every process could be read.
    pub complete: bool,
}

impl Holders {
    /// Formats their names as a list in a sentence.
    pub fn words(&self) -> String {
        let names: Vec<String> = self.processes.iter().map(ToString::to_string).collect();
        names.join(", ")
    }
}

/// Looks for processes that have a function's group or character device open.
pub fn of(system: &System, function: &Function) -> Holders {
    let mut files: Vec<String> = nodes::group(function).into_iter().collect();
    files
        .extend(function.group.as_ref().map(|group| format!("/dev/vfio/noiommu-{}", group.number)));
    files.extend(nodes::devices(system, function));
    let mut found = Holders { complete: true, ..Holders::default() };
    for pid in system.names("proc").iter().filter_map(|name| name.parse::<u32>().ok()) {
        let directory = system.path(format!("proc/{pid}/fd"));
        if std::fs::read_dir(&directory).is_err() {
            // The process may have ended. If it has not, this user may not read its files.
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
