//! Checks the controller's health as nvme-cli reports it in the guest.

use serde_json::Value;

use super::boot::Boot;
use super::{AREA, CPUS, DISK};

/// The number of features that the guest queries, each with its current, default and supported
/// values.
const FEATURES: usize = 10;

/// Bytes of a block; a thousand blocks are one unit of the health log.
const BLOCK: u64 = 512;
const UNIT: u64 = 1000 * BLOCK;

/// Returns the differences from a healthy device.
pub fn judge(boot: &Boot) -> Vec<String> {
    let mut failures: Vec<String> =
        boot.lines("refused").iter().map(|line| format!("the controller refused {line}")).collect();
    for (word, check) in [
        ("smart-log", smart as fn(&Value) -> Vec<String>),
        ("id-ctrl", controller),
        ("id-ns", namespace),
        ("list", list),
        ("error-log", errors),
        ("fw-log", firmware),
    ] {
        let said = match boot.lines(word)[..] {
            [line] => serde_json::from_str(line).map_err(|error| error.to_string()),
            ref lines => Err(format!("said {} times", lines.len())),
        };
        let found = said.map_or_else(|error| vec![error], |said| check(&said));
        failures.extend(found.into_iter().map(|what| format!("nvme {word}: {what}")));
    }
    failures.extend(features(&boot.lines("feature")));
    failures
}

/// Returns a number, which nvme-cli prints as text if it is large.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A numeric member, its condition, and the condition in words.
type Want<'a> = (&'a str, &'a dyn Fn(u64) -> bool, &'a str);

/// Returns the conditions that do not hold.
fn unmet(said: &Value, wants: &[Want<'_>]) -> Vec<String> {
    let judge = |(name, holds, want): &Want<'_>| {
        let right = number(&said[*name]).is_some_and(holds);
        (!right).then(|| format!("{name} is {}, not {want}", said[*name]))
    };
    wants.iter().filter_map(judge).collect()
}

fn smart(said: &Value) -> Vec<String> {
    let none = |count| count == 0;
    unmet(
        said,
        &[
            ("critical_warning", &none, "0"),
            ("media_errors", &none, "0"),
            ("num_err_log_entries", &none, "0"),
            ("percent_used", &none, "0 %"),
            ("unsafe_shutdowns", &none, "0"),
            ("warning_temp_time", &none, "0"),
            ("critical_comp_time", &none, "0"),
            ("avail_spare", &|percent| percent == 100, "100 %"),
            ("spare_thresh", &|percent| percent < 100, "less than what is spare"),
            (
                "temperature",
                &|kelvin| (274..343).contains(&kelvin),
                "one of a warm room, in kelvin",
            ),
            ("power_cycles", &|count| count > 0, "at least one"),
            ("host_read_commands", &|count| count > 0, "what the guest has read"),
            ("host_write_commands", &|count| count > 0, "what the guest has written"),
            ("data_units_read", &|units| units * UNIT >= AREA, "what the guest has read"),
            ("data_units_written", &|units| units * UNIT >= AREA, "what the guest has written"),
        ],
    )
}

fn controller(said: &Value) -> Vec<String> {
    let mut failures = unmet(
        said,
        &[
            ("nn", &|count| count == 1, "one namespace"),
            ("cntrltype", &|kind| kind == 1, "1, an I/O controller"),
            ("sqes", &|sizes| sizes == 0x66, "0x66"),
            ("cqes", &|sizes| sizes == 0x44, "0x44"),
            ("vwc", &|bits| bits & 1 == 1, "a cache that can be flushed"),
            ("wctemp", &|kelvin| kelvin > 300, "above what it is"),
        ],
    );
    for (name, start) in [("mn", "vfio-irq"), ("subnqn", "nqn."), ("fr", "0.")] {
        if !said[name].as_str().is_some_and(|text| text.starts_with(start)) {
            failures.push(format!("{name} is {}, not '{start}…'", said[name]));
        }
    }
    failures
}

fn namespace(said: &Value) -> Vec<String> {
    let whole = |blocks| blocks == DISK / BLOCK;
    let mut failures = unmet(
        said,
        &[("nsze", &whole, "the disk"), ("ncap", &whole, "the disk"), ("nuse", &whole, "the disk")],
    );
    let format = number(&said["flbas"]).and_then(|bits| usize::try_from(bits & 0xf).ok());
    let size = format.and_then(|format| number(&said["lbafs"][format]["ds"]));
    if size != Some(9) {
        failures.push(format!("blocks are not of 2^9 bytes: {}", said["lbafs"]));
    }
    failures
}

fn list(said: &Value) -> Vec<String> {
    match said["Devices"].as_array().map(Vec::as_slice) {
        Some([disk]) => {
            let mut failures = unmet(
                disk,
                &[
                    ("PhysicalSize", &|bytes| bytes == DISK, "the disk"),
                    ("SectorSize", &|bytes| bytes == BLOCK, "512"),
                ],
            );
            if disk["DevicePath"] != "/dev/nvme0n1" {
                failures.push(format!("the disk is at {}", disk["DevicePath"]));
            }
            failures
        }
        _ => vec![format!("there must be one disk: {said}")],
    }
}

/// Returns the errors since the controller was enabled; Linux's queries must all have succeeded.
fn errors(said: &Value) -> Vec<String> {
    match said["errors"].as_array().map(Vec::as_slice) {
        None | Some([]) => vec![format!("there is no list: {said}")],
        Some(entries) => {
            let used = entries.iter().filter(|entry| number(&entry["error_count"]) != Some(0));
            used.map(|entry| format!("an error: {entry}")).collect()
        }
    }
}

fn firmware(said: &Value) -> Vec<String> {
    let slot = &said["nvme0"]["Active Firmware Slot (afi)"];
    if number(slot) == Some(1) { Vec::new() } else { vec![format!("active is slot {slot}")] }
}

/// Checks that each feature is reported in all three ways, and that two have values that this guest
/// has set.
fn features(lines: &[&str]) -> Vec<String> {
    let mut failures = Vec::new();
    for what in ["Current value", "Default value", "Supported capabilities value"] {
        let told = lines.iter().filter(|line| line.contains(what)).count();
        if told != FEATURES {
            failures.push(format!("nvme get-feature: {told} times '{what}', not {FEATURES}"));
        }
    }
    let queues = (CPUS - 1) * 0x1_0001;
    for (feature, value) in [("0x06", 1), ("0x07", queues)] {
        let of = format!("get-feature:{feature} ");
        let line = lines.iter().find(|line| line.contains(&of) && line.contains("Current value"));
        let found = line.and_then(|line| line.rsplit_once(':')).map(|(_, text)| text.trim());
        let found = found.map(|text| text.trim_start_matches("0x"));
        let found = found.and_then(|text| u32::from_str_radix(text, 16).ok());
        if found != Some(value) {
            failures.push(format!("nvme get-feature: {feature} is {found:?}, not {value}"));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{errors, features, smart};

    fn healthy() -> Value {
        json!({
            "critical_warning": 0, "temperature": 300, "avail_spare": 100, "spare_thresh": 10,
            "percent_used": 0, "data_units_read": "1099", "data_units_written": 562,
            "host_read_commands": 3103, "host_write_commands": 1064, "power_cycles": 4,
            "unsafe_shutdowns": 0, "media_errors": 0, "num_err_log_entries": 0, "warning_temp_time": 0, "critical_comp_time": 0,
        })
    }

    #[test]
    fn good_health_is_known_and_each_sign_of_a_bad_one() {
        assert_eq!(smart(&healthy()), [""; 0]);
        for (name, value) in [
            ("critical_warning", json!(1)),
            ("media_errors", json!(1)),
            ("avail_spare", json!(99)),
            ("temperature", json!(27)),
            ("data_units_written", json!(3)),
            ("percent_used", Value::Null),
        ] {
            let mut ill = healthy();
            ill[name] = value;
            assert_eq!(smart(&ill).len(), 1, "{name}");
        }
    }

    #[test]
    fn an_error_is_missed_in_no_place_of_the_log() {
        let judged = |counts: &[u32]| {
            let entries: Vec<Value> = counts.iter().map(|n| json!({ "error_count": n })).collect();
            errors(&json!({ "errors": entries })).len()
        };
        assert_eq!(judged(&[0, 0, 0]), 0);
        assert_eq!(judged(&[0, 1, 0]), 1);
        assert_eq!(judged(&[]), 1);
    }

    #[test]
    fn a_feature_that_was_not_told_is_missed() {
        assert_eq!(features(&[]).len(), 5);
    }
}
