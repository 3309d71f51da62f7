//! Measures the memory of devices without an attached eventfd.

use crate::device::Registers;
use crate::error::Error;
use crate::goal::{Goal, Kind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use std::path::Path;
use vfio_irq_nvme_device::{Controller, Disk, Settings};
use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::{Client, ClientOptions, Options, Server};

const VECTORS: u32 = 2048;

/// Memory of this process for each device in KiB, and its threads.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// The number of devices of each kind.
    pub devices: usize,
    /// The vectors that each device advertises.
    pub vectors: u32,
    /// A device without a client.
    pub idle_kib: f64,
    /// The additional memory of a client that has attached nothing; both sides are in this process.
    pub client_kib: f64,
    /// An NVMe controller with memory for one queue, without a client and without its disk's
    /// blocks.
    pub nvme_kib: f64,
    /// Threads of a device without a client.
    pub idle_threads: f64,
    /// Threads of an NVMe controller without a client.
    pub nvme_threads: f64,
    /// The goal for a device without a client.
    pub goal: Goal,
}

/// Returns the resident memory of this process in KiB.
fn resident() -> Result<f64, Error> {
    let what = "cannot read this process's memory";
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").map_err(Error::system(what))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Error::system(what)(std::io::Error::other("no line Rss")))
}

fn threads() -> Result<usize, Error> {
    let tasks = std::fs::read_dir("/proc/self/task");
    Ok(tasks.map_err(Error::system("cannot count threads"))?.count())
}

/// Memory and threads of this process at one moment.
struct Now {
    resident: f64,
    threads: usize,
}

impl Now {
    fn get() -> Result<Self, Error> {
        Ok(Self { resident: resident()?, threads: threads()? })
    }

    #[allow(clippy::cast_precision_loss)] // Thousands.
    fn each_since(&self, before: &Self, number: usize) -> (f64, f64) {
        let threads = self.threads.saturating_sub(before.threads) as f64;
        ((self.resident - before.resident) / number as f64, threads / number as f64)
    }
}

/// Measures the memory. Must come before all other measurements, so that the allocator holds no
/// free memory. Returns the result.
pub fn measure(folder: &Path, devices: usize) -> Result<Memory, Error> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .map_err(Error::system("cannot have more descriptors"))?;
    let path = |what: &str, i: usize| folder.join(format!("{what}{i}"));
    let server = Server::start(Options::default()).map_err(Error::device("no server"))?;
    let add = |i| add_device(&server, &path("device", i));
    // The first device of each kind allocates the shared data.
    add(devices)?;
    let before = Now::get()?;
    (0..devices).try_for_each(add)?;
    let with_devices = Now::get()?;

    let clients = (devices / 10).max(1);
    let connect = |i| Client::connect(path("device", i), ClientOptions::default());
    let first = connect(devices).map_err(Error::device("no client"))?;
    let alone = Now::get()?;
    let connected: Result<Vec<_>, _> = (0..clients).map(connect).collect();
    let connected = connected.map_err(Error::device("no client"))?;
    let with_clients = Now::get()?;

    let add = |i| add_controller(&server, &path("nvme", i));
    add(devices)?;
    let no_controllers = Now::get()?;
    (0..devices).try_for_each(add)?;
    let with_controllers = Now::get()?;
    drop((first, connected));

    let (idle_kib, idle_threads) = with_devices.each_since(&before, devices);
    let (client_kib, _) = with_clients.each_since(&alone, clients);
    let (nvme_kib, nvme_threads) = with_controllers.each_since(&no_controllers, devices);
    let goal = Goal::new(Kind::Below, 32.0, idle_kib);
    let (vectors, goal) = (VECTORS, goal);
    Ok(Memory {
        devices,
        vectors,
        idle_kib,
        client_kib,
        nvme_kib,
        idle_threads,
        nvme_threads,
        goal,
    })
}

fn add_device(server: &Server, path: &Path) -> Result<(), Error> {
    let function = Function::builder(1, 2)
        .bar(0, Bar::memory64(0x1_0000))
        .msix(VECTORS, 0, 0, 0x8000)
        .pcie()
        .build()
        .map_err(Error::device("no such device"))?;
    server.add(path, function, |_| Registers).map_err(Error::device("no socket"))
}

fn add_controller(server: &Server, path: &Path) -> Result<(), Error> {
    let settings = Settings { queues: 1023, serial: "bench".into() };
    let function = settings.function().map_err(Error::device("no such controller"))?;
    let disk = Disk::memory(64 << 20).map_err(Error::device("no disk"))?;
    server
        .add(path, function, |bus| Controller::new(bus, disk, &settings))
        .map_err(Error::device("no socket"))
}
