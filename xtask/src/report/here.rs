//! What is measured on this machine, by programs that print what they found.

use std::process::Command;

use fs_err as fs;
use serde_json::Value;

use super::Part;
use crate::core_module::checkout;
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
    vec![
        ("Sources".to_owned(), said("git", &["log", "-1", "--format=%h of %as, %s"])),
        ("Measured".to_owned(), said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("This machine".to_owned(), format!("{processors} processors, {model}")),
        ("Its kernel".to_owned(), said("uname", &["-sr"])),
        ("Rust".to_owned(), said("rustc", &["--version"])),
    ]
}

fn cargo(args: &[&str]) -> Result<String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(checkout()).args(args);
    capture(command, &format!("cargo {}", args.join(" ")))
}

/// Runs a benchmark. Returns what it printed.
fn bench(package: &str, more: &[&str]) -> Result<Vec<Part>> {
    let said = cargo(&[&["bench", "-q", "-p", package], more].concat())?;
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
    let said = cargo(&["run", "--release", "-q", "--", "demo", "--json", "--picture", &file])?;
    let document: Value = serde_json::from_str(&said)
        .map_err(|error| Error::other(format!("the demo printed no JSON ({error}): {said}")))?;
    let columns = ["method", "raised", "delivered", "lost", "stalls"];
    let cell = |run: &Value, name: &str| match &run[name] {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let runs = document["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = runs.iter().map(|run| columns.map(|name| cell(run, name)).to_vec()).collect();
    let columns = columns.map(str::to_owned).to_vec();
    Ok(vec![Part::Table { columns, rows }, Part::Picture(fs::read_to_string(&picture)?)])
}
