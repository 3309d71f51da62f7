//! `vfio-irq serve`.

pub mod counts;
mod nvme;
mod size;
mod stop;

use clap::Subcommand;

/// What is served.
#[derive(Subcommand)]
pub enum Served {
    /// NVMe controllers, one for each socket
    Nvme(nvme::Options),
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They do not match.
    #[error(
        "there are {sockets} sockets and {files} disks: say --file once for each --socket, in the same order, or --size for disks in memory"
    )]
    Pairs {
        /// How many.
        sockets: usize,
        /// How many.
        files: usize,
    },
    /// A socket for two.
    #[error("{0} is named twice: each socket has a controller of its own")]
    Twice(std::path::PathBuf),
    /// No disk.
    #[error(transparent)]
    Disk(#[from] vfio_irq_nvme::DiskError),
    /// No device.
    #[error(transparent)]
    Function(#[from] vfio_irq_user::pci::FunctionError),
    /// No server.
    #[error(transparent)]
    Server(#[from] vfio_irq_user::ServerError),
    /// No counts beside a socket.
    #[error("cannot listen on {path}: {source}")]
    Counts {
        /// Where.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody to tell the counts.
    #[error("cannot publish counts: {0}")]
    Publish(std::io::Error),
    /// Nothing to end it by.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// Serves.
pub fn run(served: Served) -> Result<(), crate::error::Error> {
    let Served::Nvme(options) = served;
    nvme::serve(options).map_err(|error| crate::error::Error::plain(error.to_string()))
}
