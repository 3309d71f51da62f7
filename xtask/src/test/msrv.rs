//! The minimum Rust of the libraries, held without an older toolchain: clippy knows since when each
//! item of the standard library is stable, and each dependency names its own minimum.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Found;
use crate::checkout::cargo;
use crate::error::Error;
use crate::lab::process::capture;
use crate::lab::start::Started;

/// The packages that a VMM or a device's process builds with its own compiler.
const LIBRARIES: [&str; 3] = ["vfio-irq-engine", "vfio-irq-user", "vfio-irq"];

pub fn check() -> Found {
    let mut clippy = cargo();
    clippy.args(["clippy", "--all-features", "--lib", "--quiet"]);
    clippy.args(LIBRARIES.iter().flat_map(|library| ["-p", library]));
    clippy.args(["--", "-A", "clippy::all", "-D", "clippy::incompatible_msrv"]);
    capture(clippy, "cargo clippy")?;
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--all-features"]);
    let metadata: Value = serde_json::from_str(&capture(command, "cargo metadata")?)
        .map_err(|error| Error::other(format!("cargo metadata: {error}")))?;
    match newer(&metadata) {
        Some(newer) if newer.is_empty() => Ok(Started { value: Vec::new(), twice: false }),
        Some(newer) => Err(Error::other(format!("need a newer Rust: {}", newer.join(", ")))),
        None => Err(Error::other("cargo metadata: not the format that was expected")),
    }
}

/// Returns the dependencies of the libraries whose minimum is newer than that of the library.
/// Returns `None` if the metadata has another format.
fn newer(metadata: &Value) -> Option<Vec<String>> {
    let packages: BTreeMap<&str, &Value> = metadata["packages"]
        .as_array()?
        .iter()
        .map(|package| Some((package["id"].as_str()?, package)))
        .collect::<Option<_>>()?;
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()?
        .iter()
        .map(|node| Some((node["id"].as_str()?, node)))
        .collect::<Option<_>>()?;
    let minimum = |id: &str| version(packages.get(id)?["rust_version"].as_str()?);
    let mut newer = Vec::new();
    for library in LIBRARIES {
        let (root, _) = packages.iter().find(|(_, package)| package["name"] == library)?;
        let most = minimum(root)?;
        let (mut seen, mut next) = (BTreeSet::new(), vec![*root]);
        while let Some(id) = next.pop() {
            if !seen.insert(id) {
                continue;
            }
            if minimum(id).is_some_and(|minimum| minimum > most) {
                newer.push(format!("{} for {library}", id));
            }
            for dependency in nodes.get(id)?["deps"].as_array()? {
                let normal = |kind: &Value| kind["kind"].is_null();
                if dependency["dep_kinds"].as_array()?.iter().any(normal) {
                    next.push(dependency["pkg"].as_str()?);
                }
            }
        }
    }
    Some(newer)
}

/// Parses `1.89` or `1.89.0`.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut version = [0; 3];
    for (number, part) in version.iter_mut().zip(text.split('.')) {
        *number = part.parse().ok()?;
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use super::newer;
    use serde_json::json;

    #[test]
    fn a_dependency_that_needs_a_newer_rust_is_named() {
        let package = |name: &str, minimum: Option<&str>| json!({ "id": name, "name": name, "rust_version": minimum });
        let node = |id: &str, kind: Option<&str>, dependencies: &[&str]| {
            let depends = |id: &&str| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
            json!({ "id": id, "deps": dependencies.iter().map(depends).collect::<Vec<_>>() })
        };
        let metadata = json!({
            "packages": [
                package("vfio-irq-engine", Some("1.89")), package("vfio-irq-user", Some("1.89")),
                package("vfio-irq", Some("1.89")), package("old", Some("1.89.0")),
                package("new", Some("1.90")), package("unnamed", None),
            ],
            "resolve": { "nodes": [
                node("vfio-irq-engine", Some("dev"), &["new"]),
                node("vfio-irq-user", None, &["unnamed"]),
                node("vfio-irq", None, &["unnamed", "vfio-irq-user", "old", "unnamed"]),
                node("unnamed", None, &["new"]), node("new", None, &[]), node("old", None, &[]),
            ] },
        });
        let named = newer(&metadata).unwrap();
        assert_eq!(named, ["new for vfio-irq-user", "new for vfio-irq"]);
    }
}
