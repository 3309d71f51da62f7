//! `cargo xtask`: the lab that boots real kernels, builds the module for them and tests both.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::lab::cache::Cache;
use crate::lab::guest::Core;
use crate::lab::kernel::Series;

mod book;
mod checkout;
mod clients;
mod core_module;
mod demo;
mod emulated;
mod error;
mod guest_programs;
mod instructions;
mod lab;
mod lab_command;
mod log;
mod package;
mod release;
mod report;
mod soak;
mod test;
mod vmm;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, boots, tests and shows vfio-irq", version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build vfio-pci-core.ko, its interrupts in Rust, for a stock Debian kernel and print where it is
    Core {
        /// The kernel's series
        #[arg(long, value_enum, default_value = "7.3")]
        kernel: Series,
        /// Take kernel/ and engine/src/ from this directory instead of the checkout
        #[arg(long, hide = true)]
        source: Option<std::path::PathBuf>,
    },
    /// Boot a kernel with devices and run a command in it
    Lab(lab_command::Options),
    /// Run every test: cargo's, and the lab's on real kernels
    Test(test::Options),
    /// Run what takes hours, and write its figures into docs/tried.md
    Soak(soak::Options),
    /// Make the book from docs/ and print where it is
    Book,
    /// Build the Debian packages of the command and of the Rust core
    Package(package::Options),
    /// Make the files of a release: sources, packages, checksums; the crates are only tried
    Release(release::Options),
    /// Measure everything that is compared, and write a page with tables and plots (half an hour)
    Report(report::Options),
    /// Show a guest of the unmodified QEMU using its NVMe disk through vfio-pci
    Demo {
        /// The kernel's series, of the host and of the guest
        #[arg(long, value_enum, default_value = "7.3")]
        kernel: Series,
        /// The vfio-pci-core to load
        #[arg(long, value_enum, default_value = "rust")]
        core: Core,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Core { kernel, source } => {
            let cache = Cache::open()?;
            let source = source.as_deref().unwrap_or(checkout::checkout());
            println!("{}", core_module::build_from(&cache, kernel, source)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Task::Lab(options) => lab_command::run(options),
        Task::Test(options) => test::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Book => {
            println!("{}", book::build(&Cache::open()?)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Task::Package(options) => package::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Release(options) => release::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Report(options) => report::run(&options),
        Task::Demo { kernel, core } => demo::run(kernel, core),
    }
}
