//! A thousand devices of 2048 vectors each, in one process. Alone in its process, so that its memory
//! can be told.

#![allow(clippy::cast_precision_loss)] // All small.

mod common;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::AsFd;
use vfio_irq_user::abi::Index;
use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::{Bus, Client, ClientOptions, Device, Errno, Options, Raised, Server};

const DEVICES: usize = 1000;
const VECTORS: u32 = 2048;

struct Nothing(Bus);

impl Device for Nothing {
    fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn write(&mut self, _: u32, _: u64, data: &[u8]) -> Result<(), Errno> {
        let raised = self.0.interrupts.raise(VECTORS - 1);
        if raised == Raised::Signalled && !data.is_empty() { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn reset(&mut self) {}
}

/// Kibibytes of memory that this process really has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_thousand_devices_are_cheap() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |i: usize| folder.path().join(i.to_string());
    let server = Server::start(Options::default()).unwrap();
    let function = || {
        let bar = Bar::memory64(0x1_0000);
        Function::builder(1, 2).bar(0, bar).msix(VECTORS, 0, 0, 0x8000).pcie().build().unwrap()
    };
    server.add(path(DEVICES), function(), Nothing).unwrap();
    let (before, threads_before) = (resident(), threads());
    for i in 0..DEVICES {
        server.add(path(i), function(), Nothing).unwrap();
    }
    let each = (resident() - before) as f64 / DEVICES as f64;
    println!("{each:.1} KiB a device without a client (goal: below 32)");
    assert!(each < 32.0, "{each} KiB a device");
    assert_eq!(threads(), threads_before, "a device without a client has no thread");

    let before = resident();
    let fd = common::event();
    let clients: Vec<_> = (0..DEVICES)
        .step_by(10)
        .map(|i| {
            let client = Client::connect(path(i), ClientOptions::default()).unwrap();
            client.attach(Index::Msix, VECTORS - 1, &[fd.as_fd()]).unwrap();
            client.region_write(0, 0x9000, &[1]).unwrap();
            client
        })
        .collect();
    assert_eq!(common::signals(&fd), clients.len() as u64);
    let each = (resident() - before) as f64 / clients.len() as f64;
    println!("{each:.1} KiB more for a client with one vector, its own side included");
}
