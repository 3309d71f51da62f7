//! The process of the servers.

use super::common::Registers;
use super::ping;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vfio_bindings::bindings::vfio::vfio_region_info;
use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::{Options, Server};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend, ServerRegion};

/// Bytes of the only region.
const REGION: u32 = 0x1_0000;
const VECTORS: u32 = 2048;
/// The environment variable that makes this program the process of the servers.
const FOLDER: &str = "ROUND_TRIP_SERVERS";

pub const POLLING: &str = "polling";
pub const SLEEPING: &str = "sleeping";
pub const RUST_VMM: &str = "rust-vmm";
pub const PING: &str = "ping";
pub const POLLED_PING: &str = "polled-ping";

/// The same device for rust-vmm's server.
struct Backend;

impl ServerBackend for Backend {
    fn region_read(&mut self, _: u32, _: u64, data: &mut [u8]) -> io::Result<()> {
        data.fill(7);
        Ok(())
    }

    fn region_write(&mut self, _: u32, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn dma_map(
        &mut self,
        _: DmaMapFlags,
        _: u64,
        _: u64,
        _: u64,
        _: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, _: Vec<File>) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the folder of the sockets if this program is the process of the servers.
pub fn requested() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs all servers until standard input ends.
pub fn run(folder: &Path) -> io::Result<()> {
    let polling = Options::default();
    let sleeping = Options { spin: Duration::ZERO, ..polling };
    let _servers = [ours(&folder.join(POLLING), polling), ours(&folder.join(SLEEPING), sleeping)];
    rust_vmm(&folder.join(RUST_VMM));
    for (name, spin) in [(PING, Duration::ZERO), (POLLED_PING, polling.spin)] {
        let listener = UnixListener::bind(folder.join(name))?;
        std::thread::spawn(move || ping::serve(&listener, spin));
    }
    println!("ready");
    io::stdin().lock().read_to_end(&mut Vec::new()).map(drop)
}

fn ours(path: &Path, options: Options) -> Server {
    let server = Server::start(options).expect("a server");
    let function = Function::builder(1, 2).bar(0, Bar::memory32(REGION));
    let function = function.msix(VECTORS, 0, 0, REGION / 2).build().expect("a function");
    server.add(path, function, |_| Registers).expect("a device");
    server
}

/// Runs rust-vmm's server, for one client after the other.
fn rust_vmm(path: &Path) {
    let irqs = (0..5).map(|index| IrqInfo { index, flags: 9, count: VECTORS }).collect();
    let region = |index| {
        let (argsz, size, flags) = (32, REGION.into(), 3);
        let region_info = vfio_region_info { argsz, index, size, flags, ..Default::default() };
        ServerRegion { region_info, sparse_areas: Vec::new(), mmap_fd: None }
    };
    let server = vfio_user::Server::new(path, true, irqs, (0..9).map(region).collect());
    let server = server.expect("rust-vmm's server");
    std::thread::spawn(move || while server.run(&mut Backend).is_ok() {});
}

/// The process of the servers, which ends when this value is dropped.
pub struct Process(Child);

impl Process {
    /// Starts this program once more, and waits until all servers listen.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(FOLDER, folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self(command.spawn()?);
        let stdout = process.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim_end() == "ready" { Ok(process) } else { Err(io::ErrorKind::Other.into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process waits for the end of its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
