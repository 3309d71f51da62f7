//! `cargo xtask soak`: what takes too long for a test. Each run is repeatable, and its figures are
//! on the page [`page`] generates.

mod page;
mod runs;

use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Args;

use self::page::{Entry, Page};
use self::runs::{Run, Work};
use crate::checkout::{checkout, commit};
use crate::error::{Error, Result};
use crate::lab::process::follow;
use crate::test;

/// What to run.
#[derive(Args)]
pub struct Options {
    /// Only runs whose name contains this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Print the names of the runs, and what each does
    #[arg(long)]
    list: bool,
}

/// Runs what is chosen, one after the other, and writes the figures of each into the page.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut chosen = runs::all();
    chosen.retain(|(name, _)| name.contains(&options.only));
    if chosen.is_empty() {
        return Err(Error::other(format!(
            "no run is called {}: `cargo xtask soak --list` shows them",
            options.only
        )));
    }
    let mut failed = 0;
    for (name, run) in chosen {
        if options.list {
            println!("{name:<28} {}", run.what);
            continue;
        }
        let since = Instant::now();
        let sources = sources()?;
        let played = play(&name, run);
        if self::sources()? != sources {
            return Err(Error::other(format!(
                "the sources changed while {name} ran: nothing says what was run. \
                 Use a checkout of its own for long runs"
            )));
        }
        match played {
            Ok(figures) => {
                let seconds = since.elapsed().as_secs();
                println!("{name} … ok ({seconds} s)");
                figures.iter().for_each(|line| println!("    {line}"));
                let mut page = Page::read()?;
                page.put(&name, Entry { what: run.what.to_owned(), figures, seconds, sources });
                page.write()?;
            }
            Err(why) => {
                failed += 1;
                println!("{name} … FAILED\n{why}");
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the commit that is run. The page itself may differ from it.
fn sources() -> Result<String> {
    commit("%h of %as", &[":!docs/tried.json", ":!docs/tried.md"])
}

fn play(name: &str, run: &Run) -> Result<Vec<String>> {
    match &run.work {
        Work::Row { name, series, core, settings, seconds } => {
            let (release, remarks) = test::run_row(name, *series, *core, settings, *seconds)?;
            let with = settings.iter().map(|(name, value)| format!("{name}={value}"));
            let with: Vec<String> = with.collect();
            let head = format!("Linux {release}, the core in {core}, {}", with.join(" "));
            Ok(std::iter::once(head).chain(remarks).collect())
        }
        Work::Suite { series, core } => {
            let row = name.split_once('/').map_or(name, |(_, row)| row);
            let (release, remarks) = test::run_row(row, *series, *core, &[], 4 * 3600)?;
            Ok(std::iter::once(format!("Linux {release}")).chain(remarks).collect())
        }
        Work::Here { command } => here(command),
    }
}

/// Runs a command on this machine. Returns the last line that it prints.
fn here(line: &str) -> Result<Vec<String>> {
    let mut command = Command::new("sh");
    command.current_dir(checkout()).args(["-c", &format!("exec 2>&1; {line}")]);
    let mut last = String::new();
    follow(command, line, |said| last = said.to_owned())?;
    Ok(vec![line.to_owned(), last])
}
