//! `cargo xtask lab bench`: the cost of each operation in guest instructions, with the core in C and
//! with the core in Rust. Each has a boot of its own, and a boot repeats exactly.

use std::process::ExitCode;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::guest_programs;
use crate::lab::cache::Cache;
use crate::lab::device::Kind;
use crate::lab::guest::{Builder, Core};
use crate::lab::kernel::Series;
use crate::lab::process::Step;

/// No other work may run meanwhile. At boot the kernel tests its ciphers in the background, which
/// doubles the apparent cost of a request that takes longer than a tick.
const COMMAND: &str = r#"while ps | grep -q "[c]ryptomgr_test"; do sleep 1; done
sleep 5
exec vfio-irq-conformance instructions --bdf "$VFIO_IRQ_NVME" --edu "$VFIO_IRQ_EDU" 2>&1
"#;

/// The cost of one operation on one core, in guest instructions.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The operation.
    pub operation: String,
    /// The least; `None` if the core refuses the operation.
    pub least: Option<u64>,
    median: Option<u64>,
}

/// Runs the measurements and prints a table of both cores to standard output.
pub fn run(cache: &Cache, series: Series) -> Result<ExitCode> {
    let step = Step::start("Counting instructions, a boot for each core (a minute)", None);
    let [c, rust] = [Core::C, Core::Rust].map(|core| measure(cache, series, core));
    drop(step);
    println!("Guest instructions, least (median), on Linux {series}\n");
    println!("{:<20}{:>24}{:>24}{:>9}", "operation", "C", "Rust", "C : Rust");
    for line in table(&c?, &rust?) {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Boots the core once. Returns a figure for each operation.
pub fn measure(cache: &Cache, series: Series, core: Core) -> Result<Vec<Figure>> {
    let mut builder = Builder::new(series, core);
    builder.devices = vec![Kind::Nvme, Kind::Edu];
    // One guest instruction takes one nanosecond of the guest's clock, so runs repeat exactly.
    builder.icount = true;
    builder.timeout = Duration::from_secs(900);
    builder.image.put = vec![guest_programs::build()?];
    builder.image.command = COMMAND.to_owned();
    let outcome = builder.run(cache)?;
    let failed = |e| Error::other(format!("measuring the core in {core} failed: {e}"));
    outcome.check(|_| false).map_err(failed)?;
    Ok(figures(&outcome.output))
}

/// Returns the figures in the output: the lines of JSON.
fn figures(output: &str) -> Vec<Figure> {
    let figure = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        let number = |name: &str| value.get(name).and_then(serde_json::Value::as_u64);
        let operation = value.get("op")?.as_str()?.to_owned();
        Some(Figure { operation, least: number("min"), median: number("median") })
    };
    output.lines().filter_map(figure).collect()
}

/// Returns how often the one cost has the other.
pub fn ratio(c: Option<u64>, rust: Option<u64>) -> Option<String> {
    let hundredths = c? * 100 / rust.filter(|rust| *rust > 0)?;
    Some(format!("{}.{:02}", hundredths / 100, hundredths % 100))
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
        let ratio = ratio(theirs.and_then(|figure| figure.least), mine.least).unwrap_or_default();
        format!("{:<20}{:>24}{:>24}{ratio:>9}", mine.operation, shown(theirs), shown(Some(mine)))
    };
    rust.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{figures, table};

    #[test]
    fn both_cores_stand_side_by_side() {
        let c = "noise\n{\"op\":\"mask\",\"min\":null,\"median\":null}\n\
                 {\"op\":\"retarget\",\"min\":200,\"median\":210}\nretarget 200\n";
        let rust = "{\"op\":\"mask\",\"min\":9,\"median\":9}\n\
                    {\"op\":\"retarget\",\"min\":80,\"median\":90}\n";
        let (c, rust) = (figures(c), figures(rust));
        assert_eq!((c.len(), rust.len()), (2, 2));
        let lines = table(&c, &rust);
        assert!(lines[0].contains("refused"));
        assert!(lines[1].ends_with("2.50"));
    }
}
