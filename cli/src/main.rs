//! The command `vfio-irq`: interrupts of devices that are handed to user space, seen, measured and
//! emulated.
// These macros panic if they cannot print. `report::print` and the log return an error instead.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use clap::{CommandFactory, Parser, Subcommand};
use error::Error;
use log::{Log, Place};
use pci::System;
use report::Out;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing::level_filters::LevelFilter;

mod bench;
mod bind;
mod complete;
mod conform;
mod counts;
mod demo;
mod error;
mod file;
mod info;
mod list;
mod log;
mod manual;
mod metrics;
mod pci;
mod report;
mod serve;
mod stop;
mod target;
mod watch;

/// Interrupts of PCI devices that are handed to a virtual machine or to a user-space driver
#[derive(Parser)]
#[command(name = "vfio-irq", version, after_help = AFTER)]
struct Arguments {
    /// Print JSON: results on standard output, a failure as one object on standard error
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    task: Task,
}

const AFTER: &str =
    "TARGET is a PCI function, vfio-user:PATH for a device that another process emulates, or sim for \
one made up here. A PCI function is named by its address (0000:01:00.0, 01:00.0 for short, \
pci_0000_01_00_0) or by the name of a device of it (eth0, nvme0).
The exit status is 0, 1 when something failed, and 2 when the command line makes no sense.";

#[derive(Subcommand)]
enum Task {
    /// Show what dynamic MSI-X is good for: queues at work, one more after the other
    Demo(demo::Options),
    /// List PCI functions and their interrupts
    List(list::Options),
    /// Tell everything about the interrupts of one device
    Info(info::Options),
    /// Hand a PCI function to vfio-pci, unless something would break
    Bind(bind::BindOptions),
    /// Give a PCI function back to its own driver
    Unbind(bind::UnbindOptions),
    /// Show what each vector of a device does, as it happens
    Watch(watch::Options),
    /// Print the counts of devices in the format of OpenMetrics, for Prometheus
    Metrics(metrics::Options),
    /// Measure what requests about interrupts cost
    Bench(bench::Options),
    /// Try the rules of the interrupt contract on a device
    Conform(conform::Options),
    /// Emulate devices and serve them on sockets until SIGINT, SIGTERM or SIGHUP
    #[command(subcommand)]
    Serve(serve::Served),
    /// Print what completes this command's words in a shell
    Completions(manual::Completions),
    /// Write this command's manual pages
    Man(manual::Man),
}

fn main() -> ExitCode {
    match complete::answer() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        // A shell that completes shows no errors.
        Err(_) => return ExitCode::FAILURE,
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misunderstood(&error),
    };
    let json = arguments.json;
    let log = match start_log(&arguments) {
        Ok(log) => log,
        Err(error) => return end(Err(error), json),
    };
    let outcome = run(arguments);
    log.end();
    end(outcome, json)
}

/// Prints why the command failed, if it did. Returns the exit status.
fn end(outcome: Result<(), Error>, json: bool) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.unread => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error, json);
            ExitCode::from(error.status)
        }
    }
}

/// Returns the directory of `/sys`, `/proc` and `/dev`: tests use a tree of their own.
fn root() -> PathBuf {
    std::env::var_os("VFIO_IRQ_ROOT").map_or_else(|| "/".into(), PathBuf::from)
}

fn run(arguments: Arguments) -> Result<(), Error> {
    let out = Out { json: arguments.json };
    let system = System::at(&root());
    match arguments.task {
        Task::Demo(options) => demo::run(&system, out, &options),
        Task::List(options) => list::run(&system, out, &options),
        Task::Info(options) => info::run(&system, out, &options),
        Task::Bind(options) => bind::bind(&system, out, &options),
        Task::Unbind(options) => bind::unbind(&system, out, &options),
        Task::Watch(options) => watch::run(&system, out, &options),
        Task::Metrics(options) => metrics::run(&system, out.json, &options),
        Task::Bench(options) => bench::run(&system, out, &options),
        Task::Conform(options) => conform::run(&system, out, &options),
        Task::Serve(served) => serve::run(&system, out, served),
        Task::Completions(options) => manual::completions(&options),
        Task::Man(options) => manual::man(Arguments::command(), &options),
    }
}

/// Prints the error in the command line, or help. Returns the exit status.
fn misunderstood(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|word| word == "--json");
    if !error.use_stderr() {
        return end(report::print(&error.render().to_string()), json);
    }
    if !json {
        // Clap decides about colours.
        let _ = error.print();
        return ExitCode::from(error::MISUNDERSTOOD);
    }
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // Usage and the hint to help are for interactive use.
    let ends = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more");
    let what = lines.take_while(|line| !ends(line)).collect::<Vec<_>>().join(" ");
    let remedy = "`vfio-irq help` shows what would be right";
    end(Err(Error::new(what.trim_start_matches("error: "), remedy).misunderstood()), json)
}

fn complain(error: &Error, json: bool) {
    let text = match report::line(error) {
        Ok(text) if json => text,
        _ => format!("error: {error}\n"),
    };
    write_error(&text);
}

/// Writes to standard error. If it is closed, the text is lost.
fn write_error(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Starts the log. A server logs events, which as JSON are its result. Other commands log errors.
fn start_log(arguments: &Arguments) -> Result<Log, Error> {
    let serves = matches!(arguments.task, Task::Serve(_));
    let level = if serves { LevelFilter::INFO } else { LevelFilter::WARN };
    let place = if serves && arguments.json { Place::Stdout } else { Place::Stderr };
    Log::start(place, level, arguments.json)
}
