//! Compares the two cores' answers to a long table of requests, line by line.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use fs_err as fs;

use super::commands::ANSWERS;
use crate::error::{Error, Result};
use crate::guest_programs;
use crate::lab::cache::Cache;
use crate::lab::device::Kind;
use crate::lab::guest::{Builder, Core, Outcome};
use crate::lab::kernel::Series;
use crate::lab::process::capture;
use crate::lab::start::Started;

/// Boots a guest with each core. Returns how many rows were compared, or the differences that are
/// not allowed as the error.
pub fn check(cache: &Cache, series: Series) -> Result<Started<Vec<String>>> {
    let program = guest_programs::build()?;
    let (c, rust) = thread::scope(|scope| {
        let c = scope.spawn(|| answers(cache, series, Core::C, &program));
        let rust = answers(cache, series, Core::Rust, &program);
        let died = |_| Err(Error::other("the thread that boots the core in C died"));
        (c.join().unwrap_or_else(died), rust)
    });
    let (c, rust) = (c?, rust?);
    let twice = c.started_twice || rust.started_twice;
    Ok(Started { value: compare(cache, &program, &c.output, &rust.output)?, twice })
}

fn compare(cache: &Cache, program: &Path, c: &str, rust: &str) -> Result<Vec<String>> {
    let dir = cache.scratch("answers")?;
    let mut compare = Command::new(program);
    compare.arg("compare");
    for (name, answers) in [("c", c), ("rust", rust)] {
        let path = dir.join(name);
        fs::write(&path, answers)?;
        compare.arg(path);
    }
    match capture(compare, "comparing the answers of both cores") {
        Ok(said) => Ok(vec![said.trim().to_owned()]),
        Err(Error::Failed { output, .. }) => Err(Error::other(output)),
        Err(error) => Err(error),
    }
}

fn answers(cache: &Cache, series: Series, core: Core, program: &Path) -> Result<Outcome> {
    let mut builder = Builder::new(series, core);
    builder.devices = vec![Kind::Nvme, Kind::Edu, Kind::Xhci, Kind::Igb];
    builder.timeout = Duration::from_secs(400);
    builder.image.put = vec![program.to_owned()];
    builder.image.command = ANSWERS.to_owned();
    let outcome = builder.run(cache)?;
    outcome.check(|_| false).map_err(|e| Error::other(format!("the core in {core}: {e}")))?;
    Ok(outcome)
}
