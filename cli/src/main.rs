//! The command `vfio-irq`: devices emulated by this process, for whoever speaks vfio-user.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod nvme;
mod size;
mod stop;

#[derive(Parser)]
#[command(name = "vfio-irq", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Emulate devices and serve them on sockets until SIGINT or SIGTERM
    #[command(subcommand)]
    Serve(Served),
}

#[derive(Subcommand)]
enum Served {
    /// NVMe controllers, one for each socket
    Nvme(nvme::Options),
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "there are {sockets} sockets and {files} disks: say --file once for each --socket, in the same order, or --size for disks in memory"
    )]
    Pairs { sockets: usize, files: usize },
    #[error("{0} is named twice: each socket has a controller of its own")]
    Twice(std::path::PathBuf),
    #[error(transparent)]
    Disk(#[from] vfio_irq_nvme::DiskError),
    #[error(transparent)]
    Function(#[from] vfio_irq_user::pci::FunctionError),
    #[error(transparent)]
    Server(#[from] vfio_irq_user::ServerError),
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let Task::Serve(Served::Nvme(options)) = arguments.command;
    match nvme::serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The log goes to standard error; `RUST_LOG` says how much of it.
fn start_log() {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
