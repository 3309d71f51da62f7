//! `vfio-irq serve nvme`.

use super::counts::{self, Published};
use super::stop::Stop;
use super::{Error, size};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tracing::info;
use vfio_irq_nvme::{Controller, Counts, Disk, Settings};
use vfio_irq_user::Server;

/// What is served.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("medium").required(true))]
pub struct Options {
    /// Listen here; once for each controller
    #[arg(long = "socket", value_name = "PATH", required = true)]
    sockets: Vec<PathBuf>,
    /// A disk of this size in memory for each controller: 64M, 1G
    #[arg(long, group = "medium", value_parser = size::parse)]
    size: Option<u64>,
    /// A file or block device as the disk; once for each socket, in the same order
    #[arg(long = "file", value_name = "DISK", group = "medium")]
    files: Vec<PathBuf>,
    /// I/O queues that a guest may have, each with a vector of its own
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    queues: u16,
}

/// Serves until a signal comes; the sockets are gone then.
pub fn serve(options: Options) -> Result<(), Error> {
    let mut stop = Stop::prepare().map_err(Error::Signals)?;
    let controllers = controllers(&options)?;
    let server = Server::start(vfio_irq_user::Options::default())?;
    let mut all: Vec<(PathBuf, Counts)> = Vec::new();
    let mut published = Vec::new();
    for (socket, disk, serial) in controllers {
        let settings = Settings { queues: options.queues, serial };
        let bytes = disk.size();
        server.add(&socket, settings.function()?, |bus| {
            let controller = Controller::new(bus, disk, &settings);
            all.push((socket.clone(), controller.counts()));
            controller
        })?;
        if let Some((path, its)) = all.last() {
            let its = its.clone();
            published.push(Published::bind(path, move || nvme(&its))?);
        }
        let (path, serial) = (socket.display(), settings.serial);
        info!(%path, serial, bytes, queues = options.queues, "an NVMe controller waits for its client");
    }
    let publisher = counts::publish(published).map_err(Error::Publish)?;
    let signal = stop.wait();
    info!(signal, "stopping");
    server.stopper().stop();
    server.wait();
    drop(publisher);
    for (socket, counts) in all {
        info!(path = %socket.display(), "in all: {}", counts.totals());
    }
    Ok(())
}

/// What a controller counts.
fn nvme(counts: &Counts) -> crate::counts::Counts {
    let totals = counts.totals();
    let commands = [
        ("reads", totals.reads),
        ("writes", totals.writes),
        ("flushes", totals.flushes),
        ("others", totals.others),
        ("errors", totals.failures),
        ("doorbells", totals.doorbells),
        ("syncs", totals.syncs),
    ];
    let mut all = counts::of(counts.interrupts(), counts.vectors());
    all.device = "NVMe controller".to_owned();
    all.driver = "vfio-irq serve nvme".to_owned();
    all.totals.extend(commands.map(|(name, count)| (name.to_owned(), count)));
    all
}

/// Every socket with its disk and its serial number.
fn controllers(options: &Options) -> Result<Vec<(PathBuf, Disk, String)>, Error> {
    let (sockets, files) = (&options.sockets, &options.files);
    if let Some(twice) =
        sockets.iter().enumerate().find(|(i, s)| sockets.iter().take(*i).any(|o| o == *s))
    {
        return Err(Error::Twice(twice.1.clone()));
    }
    if let Some(size) = options.size {
        let memory = |socket: &PathBuf| Ok((socket.clone(), Disk::memory(size)?, serial(socket)));
        return sockets.iter().map(memory).collect();
    }
    if files.len() != sockets.len() {
        return Err(Error::Pairs { sockets: sockets.len(), files: files.len() });
    }
    let pairs = sockets.iter().zip(files);
    pairs.map(|(socket, file)| Ok((socket.clone(), Disk::open(file)?, serial(file)))).collect()
}

/// A serial number that stays the same for as long as the path does.
fn serial(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let bytes = path.as_os_str().as_bytes().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
