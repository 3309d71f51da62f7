//! What is measured on this machine, by programs that print what they found.

use std::process::Command;

use fs_err as fs;
use serde_json::Value;

use super::Part;
use crate::checkout::{cargo, checkout, commit};
use crate::error::{Error, Result};
use crate::lab::cache::Cache;
use crate::lab::process::capture;

/// Returns facts about this machine and these sources.
pub fn facts() -> Vec<(String, String)> {
    let said = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.current_dir(checkout()).args(args);
        capture(command, program).unwrap_or_default().trim().to_owned()
    };
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |rest| rest.trim_start_matches(['\t', ' ', ':']));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let sources = commit("%h of %as, %s", &[]).unwrap_or_else(|_| "not in a repository".to_owned());
    vec![
        ("Sources".to_owned(), sources),
        ("Measured".to_owned(), said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("This machine".to_owned(), format!("{processors} processors, {model}")),
        ("Its kernel".to_owned(), said("uname", &["-sr"])),
        ("Rust".to_owned(), said("rustc", &["--version"])),
    ]
}

fn run_cargo(args: &[&str]) -> Result<String> {
    let mut command = cargo();
    command.args(args);
    capture(command, &format!("cargo {}", args.join(" ")))
}

/// Runs a benchmark. Returns what it printed.
fn bench(package: &str, more: &[&str]) -> Result<Vec<Part>> {
    let said = run_cargo(&[&["bench", "-q", "-p", package], more].concat())?;
    match said.lines().find(|line| line.contains("NOT RUN")) {
        Some(line) => Err(Error::other(line)),
        None => Ok(vec![Part::Output(said.trim().to_owned())]),
    }
}

pub fn round_trips(_: &Cache) -> Result<Vec<Part>> {
    bench("vfio-irq-user", &["--bench", "round_trip"])
}

pub fn raises(_: &Cache) -> Result<Vec<Part>> {
    bench("vfio-irq-user", &["--bench", "raise"])
}

pub fn routes(_: &Cache) -> Result<Vec<Part>> {
    bench("vfio-irq", &["--features", "kvm", "--bench", "kvm_routes"])
}

/// Runs the demo. Returns its table and its picture.
pub fn demo(_: &Cache) -> Result<Vec<Part>> {
    let picture = checkout().join("target/report-demo.svg");
    let file = picture.display().to_string();
    let said = run_cargo(&["run", "--release", "-q", "--", "demo", "--json", "--picture", &file])?;
    let document: Value = serde_json::from_str(&said)
        .map_err(|error| Error::other(format!("the demo printed no JSON ({error}): {said}")))?;
    let columns = ["method", "raised", "delivered", "lost", "stalls"];
    let other = || Error::other(format!("the demo printed another document: {said}"));
    let cell = |run: &Value, name: &str| match run.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value) => Ok(value.to_string()),
        None => Err(other()),
    };
    let runs = document["runs"].as_array().filter(|runs| !runs.is_empty()).ok_or_else(other)?;
    let row = |run: &Value| columns.iter().map(|name| cell(run, name)).collect();
    let rows = runs.iter().map(row).collect::<Result<_>>()?;
    let columns = columns.map(str::to_owned).to_vec();
    Ok(vec![Part::Table { columns, rows }, Part::Picture(fs::read_to_string(&picture)?)])
}
