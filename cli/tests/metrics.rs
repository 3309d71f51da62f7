//! Tests of `metrics`, whose text another project's parser reads.

mod common;

use common::{TABLE, Tree, command, config, refused, said};
use openmetrics_parser::openmetrics::parse_openmetrics;
use openmetrics_parser::{MetricsExposition, OpenMetricsType, OpenMetricsValue};
use std::os::unix::fs::PermissionsExt;

type Exposition = MetricsExposition<OpenMetricsType, OpenMetricsValue>;

/// Makes a machine with a function of the Rust core, one whose indexes are idle, and one of the
/// system.
fn machine() -> Tree {
    let tree = Tree::new();
    tree.has_rust_core();
    tree.function("0000:00:04.0", "010802", &config(65, 0), "nvme", "1");
    tree.function("0000:00:05.0", "010802", &config(65, 0), "vfio-pci", "2");
    tree.counts("0000:00:05.0", TABLE);
    tree.function("0000:00:06.0", "0c0330", &config(0, 0x0006), "mlx5_vfio_pci", "3");
    tree.counts("0000:00:06.0", "mode idle\n");
    tree
}

/// Parses a text, and returns the value of a metric with these labels.
fn value(text: &str, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let parsed: Exposition =
        parse_openmetrics(text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    let family = parsed.families.get(family)?;
    let mut found = family.iter_samples().filter(|sample| {
        let own = sample.get_labelset().unwrap();
        own.iter().count() == labels.len()
            && labels.iter().all(|(name, value)| own.iter().any(|(n, v)| n == name && v == value))
    });
    let value = match &found.next()?.value {
        OpenMetricsValue::Counter(counter) => counter.value.as_f64(),
        OpenMetricsValue::Gauge(gauge) => gauge.as_f64(),
        other => panic!("{other:?}"),
    };
    assert!(found.next().is_none(), "two of {labels:?}");
    Some(value)
}

#[test]
fn every_function_of_a_vfio_driver_is_counted() {
    let tree = machine();
    let text = said(&tree.words(&["metrics"]));
    let of = |family, labels: &[_]| value(&text, family, labels);
    let device = ("device", "0000:00:05.0");
    assert_eq!(of("vfio_irq_signals", &[device, ("vector", "0")]), Some(12.0));
    assert_eq!(of("vfio_irq_signals", &[device, ("vector", "3")]), Some(7.0));
    assert_eq!(of("vfio_irq_signals", &[device, ("vector", "gone")]), Some(7.0));
    assert_eq!(of("vfio_irq_retargets", &[device, ("vector", "0")]), Some(2.0));
    assert_eq!(of("vfio_irq_loopbacks", &[device, ("vector", "3")]), Some(3.0));
    assert_eq!(of("vfio_irq_failures", &[device, ("vector", "gone")]), Some(1.0));
    assert_eq!(of("vfio_irq_operations", &[device, ("operation", "refused")]), Some(1.0));
    assert_eq!(of("vfio_irq_vectors", &[device, ("state", "masked")]), Some(1.0));
    let info = [device, ("driver", "vfio-pci"), ("mode", "msix")];
    assert_eq!(of("vfio_irq_device", &info), Some(1.0));
    let idle = [("device", "0000:00:06.0"), ("driver", "mlx5_vfio_pci"), ("mode", "idle")];
    assert_eq!(of("vfio_irq_device", &idle), Some(1.0));
    assert!(!text.contains("0000:00:04.0"), "{text}");
}

#[test]
fn a_named_device_is_counted_with_any_driver() {
    let tree = machine();
    tree.irq("0000:00:04.0", 24, "5 7 IR-PCI-MSIX-0000:00:04.0 0-edge nvme0q0");
    let text = said(&tree.words(&["metrics", "00:04.0"]));
    let vector = [("device", "0000:00:04.0"), ("vector", "0")];
    assert_eq!(value(&text, "vfio_irq_signals", &vector), Some(12.0));
    assert_eq!(value(&text, "vfio_irq_masks", &vector), None);
    let missing = refused(&tree.words(&["metrics", "00:09.0"]));
    assert!(missing.contains("0000:00:09.0"), "{missing}");
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let tree = machine();
    let file = tree.path("vfio-irq.prom");
    std::fs::write(&file, "old").unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(said(&tree.words(&["metrics", "--output", path])), "");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, said(&tree.words(&["metrics"])));
    let beside = std::fs::read_dir(file.parent().unwrap()).unwrap();
    let left = beside
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(".tmp"));
    assert_eq!(left.count(), 0);
    let why = refused(&tree.words(&["metrics", "--output", "/nonexistent/x"]));
    assert!(why.contains("cannot write /nonexistent/x"), "{why}");
}

#[test]
fn a_machine_without_vfio_has_no_metrics_and_json_is_refused() {
    let tree = Tree::new();
    assert!(said(&tree.words(&["metrics"])).ends_with("# EOF\n"));
    let output = command(&tree.words(&["metrics", "--json"])).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("OpenMetrics"));
}

/// The node exporter runs as a user of its own.
#[test]
fn all_users_can_read_the_file_whatever_the_umask() {
    let tree = machine();
    let file = tree.path("counts.prom");
    let status = std::process::Command::new("sh")
        .args(["-c", "umask 077; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_vfio-irq")])
        .args(["metrics", "--output", file.to_str().unwrap()])
        .env("VFIO_IRQ_ROOT", tree.path(""))
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o644);
}
