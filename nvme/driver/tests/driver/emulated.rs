//! The emulated controller behind a socket, and what the tests do with a driver for it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ops::Range;
use std::time::{Duration, Instant};
use vfio_irq_nvme_device::{Controller, Counts, Disk, Settings};
use vfio_irq_nvme_driver::{Completion, Driver, Method, Options, Queue, Socket};
use vfio_irq_user::{Options as ServerOptions, Server};

/// For what must happen, and would hang otherwise.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Emulated {
    counts: Counts,
    path: std::path::PathBuf,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Emulated {
    /// A controller with so many I/O queues and a disk of 32 MiB.
    pub fn new(queues: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nvme.sock");
        let settings = Settings { queues, serial: "driver".into() };
        let server = Server::start(ServerOptions::default()).unwrap();
        let mut counts = None;
        let make = |bus| {
            let controller = Controller::new(bus, Disk::memory(32 << 20).unwrap(), &settings);
            counts = Some(controller.counts());
            controller
        };
        server.add(&path, settings.function().unwrap(), make).unwrap();
        Self { counts: counts.unwrap(), path, _server: server, _folder: folder }
    }

    /// Waits until the vectors were signalled as often as that. The controller counts a signal an
    /// instant after it was seen.
    pub fn signalled(&self, vectors: Range<usize>, wanted: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counts = self.counts.totals().vectors;
            if counts[vectors.clone()].iter().all(|count| *count == wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{counts:?}, not {wanted} each");
        }
    }

    /// A connection to the controller.
    pub fn socket(&self) -> Socket {
        Socket::connect(&self.path).unwrap()
    }

    pub fn driver(&self, method: Method) -> Driver {
        let options = Options { method, ..Options::default() };
        Driver::open(self.socket(), options).unwrap()
    }
}

/// Waits for completions as long as there are commands under way.
pub fn finish(queue: &mut Queue, mut each: impl FnMut(Completion)) {
    while queue.open() > 0 {
        wait(queue, &mut each);
    }
}

/// Waits for completions. A lost interrupt is found after a second.
pub fn wait(queue: &mut Queue, mut each: impl FnMut(Completion)) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let timeout = Timespec::try_from(Duration::from_millis(100)).unwrap();
        let told = poll(&mut [PollFd::new(queue, PollFlags::IN)], Some(&timeout)).unwrap() > 0;
        if told || queue.untold().is_some_and(|time| time >= Duration::from_secs(1)) {
            let count = queue.drain(&mut each).unwrap();
            if count > 0 {
                return count;
            }
        }
        assert!(Instant::now() < deadline, "queue {} has nothing, {:?}", queue.id(), queue.stats());
    }
}

/// Bytes that tell where they belong.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let word = |at: u64| (seed << 32 | at).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..).flat_map(word).take(len).collect()
}
