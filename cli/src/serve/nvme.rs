//! `vfio-irq serve nvme`.

use super::counts::{self, Published};
use super::ready::Ready;
use super::{size, socket};
use crate::error::Error;
use crate::pci::{System, blocks};
use crate::report::{self, Out};
use crate::stop::Stop;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tracing::{info, warn};
use vfio_irq_nvme_device::{Controller, Counts, Disk, Settings};
use vfio_irq_user::Server;

/// What is served.
#[derive(clap::Args)]
#[command(
    group = clap::ArgGroup::new("medium").required(true),
    override_usage = "vfio-irq serve nvme --socket <PATH> --size <SIZE>|--file <DISK> [OPTIONS]"
)]
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
    #[command(flatten)]
    access: socket::Access,
}

/// A controller to be served.
struct Wanted {
    socket: PathBuf,
    disk: Disk,
    serial: String,
}

/// Serves until a signal arrives, and then removes the sockets.
pub fn serve(system: &System, out: Out, options: &Options) -> Result<(), Error> {
    let stop = Stop::prepare()?;
    socket::check(&options.sockets)?;
    let access = options.access.find()?;
    let wanted = wanted(system, options)?;
    let server = Server::start(vfio_irq_user::Options::default())?;
    access.restrict();
    let (mut all, mut published, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    for Wanted { socket, disk, serial } in wanted {
        let settings = Settings { queues: options.queues, serial };
        let bytes = disk.size();
        let mut counts = None;
        server.add(&socket, settings.function()?, |bus| {
            let controller = Controller::new(bus, disk, &settings);
            counts = Some(controller.counts());
            controller
        })?;
        let counts = counts.ok_or_else(|| Error::plain("the controller was not made"))?;
        let (its, path) = (counts.clone(), socket.clone());
        published.push(Published::bind(&socket, move || nvme(&its, &path))?);
        access.open(&counts::beside(&socket))?;
        access.open(&socket)?;
        ready.push((Ready::new(&socket, bytes, options.queues), settings.serial));
        all.push((socket, counts));
    }
    let publisher = counts::publish(published)
        .map_err(|error| Error::plain(format!("cannot publish counts: {error}")))?;
    ready.iter().for_each(|(ready, serial)| tell(out, ready, serial));
    stop.wait(None);
    info!(signal = stop.name(), "stopping");
    server.stopper().stop();
    server.wait();
    drop(publisher);
    all.iter().for_each(|(socket, counts)| sum_up(out, socket, counts));
    Ok(())
}

/// Prints where a controller waits, and how to use it.
fn tell(out: Out, ready: &Ready, serial: &str) {
    let Ready { path, bytes, queues, qemu, watch } = ready;
    let path = path.display();
    if out.json {
        info!(%path, serial, bytes, queues, qemu, watch, "an NVMe controller waits for its client");
        return;
    }
    // The guests of a server do not depend on a reader of these lines.
    match report::print(&ready.words()) {
        Err(error) if !error.unread => warn!("{error}"),
        _ => {}
    }
    info!(%path, serial, bytes, queues, "an NVMe controller waits for its client");
}

/// Prints the totals of a controller.
fn sum_up(out: Out, socket: &Path, counts: &Counts) {
    let (path, totals) = (socket.display(), counts.totals());
    if !out.json {
        return info!(%path, "in all: {totals}");
    }
    let vfio_irq_nvme_device::Totals { reads, writes, read_blocks, written_blocks, .. } = totals;
    let vfio_irq_nvme_device::Totals { flushes, others, failures, doorbells, syncs, .. } = totals;
    let interrupts: u64 = totals.vectors.iter().sum();
    info!(
        %path, reads, writes, read_blocks, written_blocks, flushes, others, failures, doorbells,
        syncs, interrupts, "in all"
    );
}

/// Returns a controller's counts.
fn nvme(counts: &Counts, path: &Path) -> crate::counts::Counts {
    let totals = counts.totals();
    let commands = [
        ("reads", totals.reads),
        ("writes", totals.writes),
        ("flushes", totals.flushes),
        ("others", totals.others),
        ("failures", totals.failures),
        ("doorbells", totals.doorbells),
        ("syncs", totals.syncs),
    ];
    let mut all = counts::of(counts.interrupts(), counts.vectors());
    all.device = "NVMe controller".to_owned();
    all.driver = "vfio-irq serve nvme".to_owned();
    all.client = socket::has_client(path);
    all.totals.extend(commands.map(|(name, count)| (name.to_owned(), count)));
    all
}

/// Returns every socket with its disk and its serial number.
fn wanted(system: &System, options: &Options) -> Result<Vec<Wanted>, Error> {
    let (sockets, files) = (&options.sockets, &options.files);
    if let Some(size) = options.size {
        let memory = |socket: &PathBuf| {
            let disk = Disk::memory(size)?;
            Ok(Wanted { socket: socket.clone(), disk, serial: serial(socket) })
        };
        return sockets.iter().map(memory).collect();
    }
    if files.len() != sockets.len() {
        let what = format!(
            "there are {} and {}",
            report::many(sockets.len() as u64, "socket"),
            report::many(files.len() as u64, "disk")
        );
        let remedy =
            "say --file once for each --socket, in the same order, or --size for disks in memory";
        return Err(Error::new(what, remedy).misunderstood());
    }
    let pair = |(socket, file): (&PathBuf, &PathBuf)| {
        let obstacles = blocks::of_file(system, file)?;
        if !obstacles.is_empty() {
            let what = format!("{} is not served, because:", file.display());
            return Err(Error { obstacles, ..Error::plain(what) });
        }
        Ok(Wanted { socket: socket.clone(), disk: Disk::open(file)?, serial: serial(file) })
    };
    sockets.iter().zip(files).map(pair).collect()
}

/// Returns a serial number that depends only on the path.
fn serial(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let bytes = path.as_os_str().as_bytes().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
