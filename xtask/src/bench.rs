//! `cargo xtask lab bench`: the cost of each operation in guest instructions, C and Rust in one boot.

use std::process::ExitCode;
use std::time::Duration;

use crate::conformance;
use crate::error::{Error, Result};
use crate::lab::cache::Cache;
use crate::lab::device::Kind;
use crate::lab::guest::{Builder, Driver};
use crate::lab::kernel::Series;
use crate::lab::process::Step;
use crate::log;
use crate::module;

/// Both drivers get the same devices, one after the other. Nothing else may run meanwhile: at boot the
/// kernel tests its ciphers in the background, which doubles what a request seems to cost that takes
/// longer than a tick.
const COMMAND: &str = r#"status=0
while ps | grep -q "[c]ryptomgr_test"; do sleep 1; done
sleep 5
for driver in vfio-pci vfio-pci-rs; do
    for device in $BIND; do vfio-bind "$device" $driver || exit 1; done
    echo "@@ $driver"
    vfio-irq-conformance bench --bdf "$VFIO_IRQ_NVME" --edu "$VFIO_IRQ_EDU" 2>&1 || status=1
done
exit $status
"#;

/// What one operation cost one driver, in guest instructions.
#[derive(Debug, Clone, PartialEq)]
struct Figure {
    operation: String,
    /// Absent where the driver refuses the operation.
    least: Option<u64>,
    median: Option<u64>,
}

/// Runs the measurements; a table of both drivers goes to standard output.
pub fn run(cache: &Cache, series: Series) -> Result<ExitCode> {
    let mut builder = Builder::new(series, Driver::VfioPciRs);
    builder.module = Some(module::build(cache, series)?);
    builder.devices = vec![Kind::Nvme, Kind::Edu];
    // One guest instruction is one nanosecond of the guest's clock: runs repeat exactly.
    builder.icount = true;
    builder.timeout = Duration::from_secs(900);
    builder.image.put = vec![conformance::build()?];
    builder.image.command = COMMAND.to_owned();
    let step = Step::start("Counting instructions, both drivers in one boot (half a minute)", None);
    let outcome = builder.run(cache)?;
    drop(step);
    let (alarms, _) = log::judge(&outcome.log);
    if outcome.status != 0 || !alarms.is_empty() {
        let said = alarms.join("\n");
        return Err(Error::other(format!("the measurements failed:\n{}\n{said}", outcome.output)));
    }
    let both =
        [Driver::VfioPci, Driver::VfioPciRs].map(|driver| figures(&outcome.output, driver.name()));
    println!("Guest instructions, least (median), on Linux {series}\n");
    println!("{:<20}{:>24}{:>24}{:>9}", "operation", "vfio-pci", "vfio-pci-rs", "C : Rust");
    for line in table(&both[0], &both[1]) {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The JSON lines that follow `@@ driver`.
fn figures(output: &str, driver: &str) -> Vec<Figure> {
    let mine = output.lines().skip_while(|line| line.strip_prefix("@@ ") != Some(driver)).skip(1);
    let figure = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        let number = |name: &str| value.get(name).and_then(serde_json::Value::as_u64);
        let operation = value.get("op")?.as_str()?.to_owned();
        Some(Figure { operation, least: number("min"), median: number("median") })
    };
    mine.take_while(|line| !line.starts_with("@@ ")).filter_map(figure).collect()
}

fn table(c: &[Figure], rust: &[Figure]) -> Vec<String> {
    let shown = |figure: Option<&Figure>| match figure {
        Some(Figure { least: Some(least), median: Some(median), .. }) => {
            format!("{least} ({median})")
        }
        _ => "refused".to_owned(),
    };
    let line = |mine: &Figure| {
        let theirs = c.iter().find(|figure| figure.operation == mine.operation);
        let ratio = match (theirs.and_then(|figure| figure.least), mine.least) {
            (Some(c), Some(rust @ 1..)) => {
                let ratio = c * 100 / rust;
                format!("{}.{:02}", ratio / 100, ratio % 100)
            }
            _ => String::new(),
        };
        format!("{:<20}{:>24}{:>24}{ratio:>9}", mine.operation, shown(theirs), shown(Some(mine)))
    };
    rust.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{figures, table};

    #[test]
    fn each_driver_has_its_own_figures() {
        let output = "@@ vfio-pci\n{\"op\":\"mask\",\"min\":null,\"median\":null}\n{\"op\":\"retarget\",\"min\":200,\"median\":210}\n\
                      retarget 200\n@@ vfio-pci-rs\n{\"op\":\"mask\",\"min\":9,\"median\":9}\n{\"op\":\"retarget\",\"min\":80,\"median\":90}\n";
        let (c, rust) = (figures(output, "vfio-pci"), figures(output, "vfio-pci-rs"));
        assert_eq!((c.len(), rust.len()), (2, 2));
        let lines = table(&c, &rust);
        assert!(lines[0].contains("refused"));
        assert!(lines[1].ends_with("2.50"));
    }
}
