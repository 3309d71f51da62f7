//! Measures the resident memory of a process for each of a thousand devices without an attached
//! eventfd, and for a client that has attached nothing. `DEVICES` changes how many.
//!
//! The kernel's memory (sockets, stacks) is not counted.

mod common;

use common::{Registers, number};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::{Client, ClientOptions, Options, Server};

const VECTORS: u32 = 2048;
/// The goal for a device without a client, in KiB.
const GOAL: f64 = 32.0;

/// Returns the resident memory of this process in KiB.
fn resident() -> f64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("this process's memory");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a line Rss")
}

/// Calls `make` for each number, and keeps what it returns. The first call allocates shared data
/// and does not count. Returns the KiB and the threads of each other call.
fn each<T>(count: usize, make: impl Fn(usize) -> T) -> (f64, f64) {
    let threads = || std::fs::read_dir("/proc/self/task").expect("this process's threads").count();
    let _first = make(count);
    let before = (resident(), threads());
    let _kept: Vec<T> = (0..count).map(make).collect();
    let (memory, threads) = (resident() - before.0, threads() - before.1);
    (memory / count as f64, threads as f64 / count as f64)
}

fn main() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("a limit");
    let folder = tempfile::tempdir().expect("a folder for the sockets");
    let server = Server::start(Options::default()).expect("a server");
    let path = |i: usize| folder.path().join(i.to_string());
    let devices = number("DEVICES", 1000);
    let (device, threads) = each(devices, |i| {
        let function = Function::builder(1, 2).bar(0, Bar::memory64(0x1_0000));
        let function = function.msix(VECTORS, 0, 0, 0x8000).pcie().build().expect("a function");
        server.add(path(i), function, |_| Registers).expect("a device");
    });
    let met = if device < GOAL { "met" } else { "MISSED" };
    println!("{devices} devices of {VECTORS} vectors in one process, nothing attached:");
    println!("a device: {device:.1} KiB, {threads:.1} threads  goal < {GOAL} {met}");
    let connect = |i| Client::connect(path(i), ClientOptions::default()).expect("a client");
    let (client, threads) = each((devices / 10).max(1), connect);
    println!("a client, both sides of it: {client:.1} KiB, {threads:.1} threads");
}
