//! `cargo xtask lab bench`: the cost of each operation in guest instructions, C and Rust in one boot.

use std::process::ExitCode;
use std::time::Duration;

use crate::conformance;
use crate::error::Result;
use crate::lab::cache::Cache;
use crate::lab::device::Kind;
use crate::lab::guest::{Builder, Driver};
use crate::lab::kernel::Series;
use crate::log;

/// Both drivers get the same devices, one after the other.
const COMMAND: &str = r#"status=0
for driver in vfio-pci vfio-pci-rs; do
    for device in $BIND; do vfio-bind "$device" $driver || exit 1; done
    echo "── $driver ──"
    vfio-irq-conformance bench --bdf "$VFIO_IRQ_NVME" --edu "$VFIO_IRQ_EDU" || status=1
done
exit $status
"#;

/// Runs the measurements; the numbers go to standard output.
pub fn run(cache: &Cache, series: Series) -> Result<ExitCode> {
    let mut builder = Builder::new(series, Driver::VfioPciRs);
    builder.devices = vec![Kind::Nvme, Kind::Edu];
    // One guest instruction is one nanosecond of the guest's clock: runs repeat exactly.
    builder.icount = true;
    builder.echo = true;
    builder.timeout = Duration::from_secs(900);
    builder.image.put = vec![conformance::build()?];
    builder.image.command = COMMAND.to_owned();
    let outcome = builder.run(cache)?;
    let (alarms, _) = log::judge(&outcome.log);
    for line in &alarms {
        eprintln!("the guest's kernel said: {line}");
    }
    let failed = outcome.status != 0 || !alarms.is_empty();
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
