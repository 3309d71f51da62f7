//! `cargo xtask demo`: a guest of an unmodified QEMU uses its NVMe disk through the driver. The
//! demo shows and judges the interrupts as seen from every side.

use std::process::ExitCode;
use std::time::Duration;

use crate::core_module;
use crate::error::{Result, all_right};
use crate::guest_programs;
use crate::lab::cache::Cache;
use crate::lab::device::Kind;
use crate::lab::guest::{Builder, Core, Outcome};
use crate::lab::image::Image;
use crate::lab::kernel::{Kernel, Series};
use crate::lab::process::Step;
use crate::lab::root;
use crate::lab::start::Started;

mod verdict;

/// Runs in the first guest.
const HOST: &str = include_str!("host.sh");

/// Runs in the second.
const GUEST: &str = include_str!("guest.sh");

/// Runs the demo and shows it section by section. Returns an error status if a section's check
/// fails.
pub fn run(series: Series, core: Core) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let outcome = boot(&cache, series, core)?;
    let mut passed = true;
    for section in verdict::sections(&outcome, core) {
        println!("\n── {} ──", section.title);
        println!("{}", section.shown.trim_end());
        match &section.verdict {
            Ok(words) => println!("  OK: {words}"),
            Err(words) => {
                passed = false;
                println!("  FAILED: {words}");
            }
        }
    }
    println!();
    let seconds = outcome.took.as_secs();
    println!(
        "{} in {seconds} s; the host's console: {}",
        if passed { "All as it should be" } else { "FAILED" },
        outcome.console.display()
    );
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the demo for its verdicts alone. Returns the failures as the error.
pub fn check(cache: &Cache, series: Series, core: Core) -> Result<Started<Vec<String>>> {
    let outcome = boot(cache, series, core)?;
    let failure = |section: verdict::Section| {
        section.verdict.err().map(|words| format!("{}: {words}", section.title))
    };
    let failures = verdict::sections(&outcome, core).into_iter().filter_map(failure).collect();
    all_right(failures)?;
    Ok(Started { value: Vec::new(), twice: outcome.started_twice })
}

fn boot(cache: &Cache, series: Series, core: Core) -> Result<Outcome> {
    let tools = root::Kind::Trixie.obtain(cache)?;
    let kernel = Kernel::obtain(cache, series)?;
    let second =
        Image { modules: vec!["nvme".to_owned()], command: GUEST.to_owned(), ..Image::default() };
    let mut builder = Builder::new(series, core);
    if core == Core::Rust {
        builder.module = Some(core_module::build(cache, series)?);
    }
    builder.devices = vec![Kind::Nvme];
    builder.disk = Some(64);
    builder.root = true;
    builder.nested = true;
    builder.cpus = 2;
    builder.memory = 3072;
    builder.timeout = Duration::from_secs(420);
    builder.image.command = HOST.to_owned();
    builder.image.put = vec![guest_programs::build()?];
    builder.image.files =
        vec![("lab/second/initrd".to_owned(), second.build(tools.path(), &kernel)?)];
    let title = format!(
        "Linux {} under emulation hands its NVMe disk to a guest of QEMU (about a minute)",
        kernel.release
    );
    let _step = Step::start(&title, None);
    builder.run(cache)
}
