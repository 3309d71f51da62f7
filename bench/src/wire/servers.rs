//! The process of the servers.

use super::ping;
use crate::device::Registers;
use crate::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vfio_bindings::bindings::vfio::vfio_region_info;
use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::{Options, Server};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend, ServerRegion};

/// Bytes of the device's only region.
const REGION: u32 = 0x1_0000;
const VECTORS: u32 = 2048;
const READY: &str = "ready";

/// The same device for rust-vmm's server. It drops the eventfds of a SET_IRQS.
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

/// The paths of the servers' sockets.
#[derive(Clone, Debug)]
pub struct Sockets {
    pub polling: PathBuf,
    pub sleeping: PathBuf,
    pub peer: PathBuf,
    pub ping: PathBuf,
    pub polled_ping: PathBuf,
}

impl Sockets {
    fn within(folder: &Path) -> Self {
        let [polling, sleeping, peer, ping, polled_ping] =
            ["polling", "sleeping", "peer", "ping", "polled-ping"].map(|name| folder.join(name));
        Self { polling, sleeping, peer, ping, polled_ping }
    }
}

/// Runs all servers until standard input ends. Implements the hidden subcommand.
pub fn run(folder: &Path) -> Result<(), Error> {
    let sockets = Sockets::within(folder);
    let polling = ours(&sockets.polling, Options::default())?;
    let sleeping = ours(&sockets.sleeping, Options { spin: Duration::ZERO, ..Options::default() })?;
    peer(&sockets.peer)?;
    let pings = [(&sockets.ping, Duration::ZERO), (&sockets.polled_ping, Options::default().spin)];
    for (path, spin) in pings {
        let listener = UnixListener::bind(path).map_err(Error::system("no socket"))?;
        std::thread::spawn(move || ping::serve(&listener, spin));
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{READY}").map_err(Error::system("cannot write"))?;
    let ended = io::stdin().lock().read_to_end(&mut Vec::new());
    ended.map_err(Error::system("cannot wait"))?;
    drop((polling, sleeping));
    Ok(())
}

fn ours(path: &Path, options: Options) -> Result<Server, Error> {
    let server = Server::start(options).map_err(Error::device("no server"))?;
    let function = Function::builder(1, 2)
        .bar(0, Bar::memory32(REGION))
        .msix(VECTORS, 0, 0, REGION / 2)
        .build()
        .map_err(Error::device("no such device"))?;
    server.add(path, function, |_| Registers).map_err(Error::device("no socket"))?;
    Ok(server)
}

/// Runs rust-vmm's server, for one client after the other.
fn peer(path: &Path) -> Result<(), Error> {
    let irqs = (0..5).map(|index| IrqInfo { index, flags: 9, count: VECTORS }).collect();
    let regions = (0..9)
        .map(|index| {
            let mut region_info = vfio_region_info::default();
            (region_info.argsz, region_info.index) = (32, index);
            (region_info.size, region_info.flags) = (REGION.into(), 3);
            ServerRegion { region_info, sparse_areas: Vec::new(), mmap_fd: None }
        })
        .collect();
    let server = vfio_user::Server::new(path, true, irqs, regions)
        .map_err(|error| Error::device("no rust-vmm server")(error.to_string()))?;
    std::thread::spawn(move || while server.run(&mut Backend).is_ok() {});
    Ok(())
}

/// The servers' process, which ends when this value is dropped.
pub struct Servers {
    child: Child,
    pub sockets: Sockets,
}

impl Servers {
    /// Starts the process, on `cpu` if given.
    pub fn start(folder: &Path, cpu: Option<usize>) -> Result<Self, Error> {
        let what = "cannot start the servers' process";
        let program = std::env::current_exe().map_err(Error::system(what))?;
        let mut command = Command::new(program);
        command.arg("servers").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(cpu) = cpu {
            command.arg("--cpu").arg(cpu.to_string());
        }
        let child = command.spawn().map_err(Error::system(what))?;
        let mut servers = Self { child, sockets: Sockets::within(folder) };
        let stdout = servers.child.stdout.take().ok_or(Error::NoServers)?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(Error::system(what))?;
        if line.trim_end() == READY { Ok(servers) } else { Err(Error::NoServers) }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The process waits for the end of its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
