//! Checks that the commands print the JSON that docs/json.md describes.

mod common;

use common::{Tree, command, config, json, text};
use serde_json::Value;
use std::collections::BTreeMap;

/// The fields of each command's document by path: their types, and whether they may be missing.
type Described = BTreeMap<String, (Vec<String>, bool)>;

fn described(heading: &str) -> Described {
    let page = include_str!("../../docs/json.md");
    let begin = format!("\n## {heading}\n");
    let section = page.split_once(&begin).unwrap_or_else(|| panic!("no section {heading}")).1;
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let field = |row: &str| {
        let (path, rest) = row.split_once("` | ").unwrap();
        let kind = rest.split(" | ").next().unwrap();
        let (kind, missing) =
            kind.split_once(", or missing").map_or((kind, false), |it| (it.0, true));
        let kinds = kind.split(" or ").map(|kind| kind.split(' ').next().unwrap().to_owned());
        (path.to_owned(), (kinds.collect(), missing))
    };
    rows.map(field).collect()
}

/// Compares a value with its description, and records the fields found.
fn compare(value: &Value, path: &str, all: &Described, met: &mut BTreeMap<String, u32>) {
    *met.entry(path.to_owned()).or_default() += 1;
    if let Some((kinds, _)) = all.get(path) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let fits =
            kinds.iter().any(|known| known == kind || known == "number" && kind == "integer");
        assert!(fits, "{path} is {kind}, not {kinds:?}: {value}");
    } else {
        assert!(
            path.is_empty() || path.ends_with("[]") || path.ends_with(".NAME"),
            "{path}: {value}"
        );
    }
    match value {
        Value::Array(values) => {
            values.iter().for_each(|value| compare(value, &format!("{path}[]"), all, met));
        }
        Value::Object(fields) => {
            let is_map = path.ends_with("facts") || path.ends_with("totals");
            for (name, value) in fields {
                let name = if is_map { "NAME" } else { name };
                let below =
                    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                compare(value, &below, all, met);
            }
        }
        _ => {}
    }
}

/// Checks that documents match their description: each mandatory field is present if its parent is.
fn holds(heading: &str, documents: &[Value]) {
    let all = described(heading);
    let mut met = BTreeMap::new();
    for document in documents {
        assert_eq!(document["schema"], 1, "{document}");
        let time = document["time"].as_str().unwrap();
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
        let mut document = document.clone();
        let fields = document.as_object_mut().unwrap();
        fields.retain(|name, _| name != "schema" && name != "time");
        compare(&document, "", &all, &mut met);
    }
    for (path, (_, missing)) in &all {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let count = |path: &str| met.get(path).copied().unwrap_or(0);
        let nulls = all.get(parent.trim_end_matches("[]"));
        let may_be_null = nulls.is_some_and(|(kinds, _)| kinds.iter().any(|kind| kind == "null"));
        // A tagged object has the fields of its tag.
        let tagged = all.contains_key(&format!("{parent}.is"));
        if !missing && !may_be_null && !tagged {
            assert_eq!(count(path), count(parent), "{heading}: {path} is not always there");
        }
    }
    assert!(met.len() > 3, "{met:?}");
}

/// Makes a machine on which each field has a value somewhere.
fn machine() -> Tree {
    let tree = Tree::new();
    tree.file("usr/share/misc/pci.ids", "8086  Intel Corporation\n\t10c9  82576\n");
    let parent = tree.function("0000:00:04.0", "020000", &config(65, 0), "vfio-pci", "1");
    tree.file(&format!("{parent}/sriov_totalvfs"), "7\n");
    let child = tree.function("0000:00:14.0", "020000", &config(3, 0), "igbvf", "1");
    tree.link(&format!("{child}/physfn"), &parent);
    tree.link(&format!("{parent}/virtfn0"), &child);
    tree.file(&format!("{child}/net/eth0/flags"), "0x1003\n");
    tree.link("sys/class/net/eth0", &format!("{child}/net/eth0"));
    tree.has_rust_core();
    tree.function("0000:00:05.0", "010802", &config(65, 0), "vfio-pci", "2");
    tree.irq("0000:00:05.0", 27, "12 0 IR-PCI-MSIX-0000:00:05.0 0-edge vfio-msix[0](0000:00:05.0)");
    tree.irq("0000:00:05.0", 28, "");
    let table = "mode msix requests 9 refused 1 note -\n\
                 vector irq state signals masks unmasks retargets loopbacks failures\n\
                 0 27 open 12 1 1 2 0 0\n5 - masked - 1 0 0 0 0\ngone - - 7 0 0 0 0 1\n";
    tree.counts("0000:00:05.0", table);
    tree.file("proc/77/comm", "qemu-system-x86\n");
    std::fs::create_dir_all(tree.path("proc/77/fd")).unwrap();
    std::os::unix::fs::symlink("/dev/vfio/2", tree.path("proc/77/fd/9")).unwrap();
    tree.function("0000:00:07.0", "020000", &config(10, 0x0180)[..64], "igb", "");
    tree
}

#[test]
fn functions_are_described() {
    let tree = machine();
    let list = json(&tree.words(&["list"]));
    assert_eq!(list["core"], serde_json::json!({ "is": "rust", "version": "vfio-irq 0.1.0" }));
    holds("`list`", &[list]);
    let targets = ["00:04.0", "00:05.0", "00:07.0", "00:14.0"];
    let documents = targets.map(|target| json(&tree.words(&["info", target])));
    holds("`info`", &[&documents[..], &[json(&["info", "sim"])]].concat());
    // Names have one spelling, and counts are numbers.
    let bound = &documents[1];
    let indexes = json(&["info", "sim"])["indexes"].as_array().unwrap().clone();
    let names: Vec<&Value> = indexes.iter().map(|index| &index["index"]).collect();
    assert_eq!(names, ["intx", "msi", "msix", "err", "req"]);
    assert_eq!(bound["host_interrupts"][0]["index"], "msix");
    let facts = serde_json::json!({ "mode": "msix", "note": null });
    assert_eq!(
        (&bound["counts"]["facts"], &bound["function"]["group"]["number"]),
        (&facts, &2.into())
    );
}

#[test]
fn changes_and_failures_are_described() {
    let tree = machine();
    tree.has_driver("mlx5_vfio_pci");
    let words = ["bind", "00:05.0", "--dry-run", "--force", "--driver", "mlx5_vfio_pci"];
    let dry = json(&tree.words(&words));
    holds("`bind`, `unbind`", &[dry]);
    let failure = |words: &[&str]| -> Value {
        let output = command(words).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{words:?}");
        serde_json::from_slice(&output.stderr).unwrap()
    };
    let failures = [
        failure(&tree.words(&["bind", "00:07.0", "--json"])),
        failure(&tree.words(&["info", "00:19.0", "--json"])),
        failure(&["lost", "--json"]),
        failure(&["info", "vfio-user:/nonexistent", "--json"]),
    ];
    assert!(failures[0]["obstacles"].as_array().unwrap().len() == 1, "{}", failures[0]);
    holds("A failure", &failures);
}

#[test]
fn measurements_are_described() {
    let tree = machine();
    holds("`bench`", &[json(&["bench", "sim", "--rounds", "1"])]);
    holds("`conform`", &[json(&["conform", "sim"])]);
    let picture = tree.path("demo.svg");
    let demo = ["demo", "--queues", "1", "--interval", "1", "--picture", text(&picture)];
    holds("`demo`", &[json(&demo)]);
    let looks = command(&["watch", "sim", "--json", "--count", "3", "--interval", "0.05"]).output();
    let looks = String::from_utf8(looks.unwrap().stdout).unwrap();
    let mut looks: Vec<Value> =
        looks.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The time advances.
    let times: Vec<&str> = looks.iter().map(|look| look["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times[0] < times[2], "{times:?}");
    looks.extend(
        ["00:05.0", "00:07.0"].map(|target| json(&tree.words(&["watch", target, "--once"]))),
    );
    holds("`watch`", &looks);
}

#[test]
fn what_a_server_tells_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("disk");
    let words = ["serve", "nvme", "--socket", text(&socket), "--size", "1M", "--queues", "3"];
    let child = command(&words).spawn().unwrap();
    let counts = folder.path().join("disk.counts");
    let connect = || std::os::unix::net::UnixStream::connect(&counts).ok();
    common::eventually("counts", || connect().is_some());
    let mut told = String::new();
    std::io::Read::read_to_string(&mut connect().unwrap(), &mut told).unwrap();
    holds("`PATH.counts`", &[serde_json::from_str(&told).unwrap()]);
    assert!(common::stop(child, "-TERM").status.success());
}
