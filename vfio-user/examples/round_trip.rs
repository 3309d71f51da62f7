//! How long a round trip takes: `cargo run --release --example round_trip [-- SPIN_OF_SERVER [SPIN_OF_CLIENT]]`,
//! both in microseconds. Prints medians, beside a bare ping-pong over a socket.
#![allow(clippy::cast_precision_loss)]

use rustix::event::{EventfdFlags, eventfd};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vfio_irq_user::abi::Index;
use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::{Bus, Client, ClientOptions, Device, Errno, Options, Raised, Server};
use vfio_user::{IrqInfo, ServerBackend, ServerRegion};

struct Registers(#[allow(dead_code)] Bus);

impl Device for Registers {
    fn read(&mut self, _: u32, _: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.fill(7);
        Ok(())
    }

    fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn reset(&mut self) {}
}

const ROUNDS: usize = 20_000;

fn median(what: &str, mut act: impl FnMut()) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let since = Instant::now();
            act();
            since.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |percent: usize| times[ROUNDS * percent / 100].as_nanos() as f64 / 1000.0;
    println!("{what:24} {:8.2} µs median, {:8.2} µs 99 %", at(50), at(99));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut micros = std::env::args().skip(1).map(|arg| arg.parse().map(Duration::from_micros));
    let spin = micros.next().transpose()?.unwrap_or(Options::default().spin);
    let client_spin = micros.next().transpose()?.unwrap_or(ClientOptions::default().spin);
    let folder = std::env::temp_dir().join(format!("round-trip-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let path = folder.join("socket");

    let server = Server::start(Options { spin, ..Options::default() })?;
    let function =
        Function::builder(1, 2).bar(0, Bar::memory32(0x10000)).msix(2048, 0, 0, 0x8000).build()?;
    let mut interrupts = None;
    server.add(&path, function, |bus| {
        interrupts = Some(bus.interrupts.clone());
        Registers(bus)
    })?;
    let interrupts = interrupts.ok_or("the device has its bus")?;
    let options = ClientOptions { spin: client_spin, ..ClientOptions::default() };
    let client = Client::connect(&path, options)?;
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;

    println!("server looks for {spin:?} before it sleeps, client for {client_spin:?}");
    median("GET_IRQ_INFO", || drop(client.irq_info(Index::Msix)));
    median("REGION_READ, 4 bytes", || drop(client.region_read(0, 0x9000, &mut [0; 4])));
    median("SET_IRQS, 1 descriptor", || drop(client.attach(Index::Msix, 3, &[fd.as_fd()])));
    ping_pong()?;
    rust_vmm(&folder.join("peer"), options)?;

    let since = Instant::now();
    for _ in 0..1_000_000 {
        rustix::io::write(&fd, &1_u64.to_ne_bytes())?;
    }
    let bare = since.elapsed();
    let since = Instant::now();
    for _ in 0..1_000_000 {
        assert_eq!(interrupts.raise(3), Raised::Signalled);
    }
    let raise = since.elapsed();
    println!("raise {raise:?}, write to an eventfd {bare:?}, a million of each");
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// The least that a device of rust-vmm's `vfio_user` can be.
struct Backend;

impl ServerBackend for Backend {
    fn region_read(&mut self, _: u32, _: u64, data: &mut [u8]) -> std::io::Result<()> {
        data.fill(7);
        Ok(())
    }
    fn region_write(&mut self, _: u32, _: u64, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn dma_map(
        &mut self,
        _: vfio_user::DmaMapFlags,
        _: u64,
        _: u64,
        _: u64,
        _: Option<std::fs::File>,
    ) -> std::io::Result<()> {
        Ok(())
    }
    fn dma_unmap(&mut self, _: vfio_user::DmaUnmapFlags, _: u64, _: u64) -> std::io::Result<()> {
        Ok(())
    }
    fn reset(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn set_irqs(
        &mut self,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: Vec<std::fs::File>,
    ) -> std::io::Result<()> {
        Ok(())
    }
}

/// The same client, with rust-vmm's server.
fn rust_vmm(
    path: &std::path::Path,
    options: ClientOptions,
) -> Result<(), Box<dyn std::error::Error>> {
    let irqs = (0..5).map(|index| IrqInfo { index, flags: 9, count: 2048 }).collect();
    let regions = (0..9)
        .map(|index| {
            let mut region_info = vfio_bindings::bindings::vfio::vfio_region_info::default();
            (region_info.argsz, region_info.index, region_info.size) = (32, index, 0x10000);
            region_info.flags = 3;
            ServerRegion { region_info, sparse_areas: Vec::new(), mmap_fd: None }
        })
        .collect();
    let server = vfio_user::Server::new(path, true, irqs, regions)?;
    let thread = std::thread::spawn(move || server.run(&mut Backend));
    let client = Client::connect(path, options)?;
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    median("rust-vmm, GET_IRQ_INFO", || drop(client.irq_info(Index::Msix)));
    median("rust-vmm, REGION_READ", || drop(client.region_read(0, 0x9000, &mut [0; 4])));
    median("rust-vmm, SET_IRQS", || drop(client.attach(Index::Msix, 3, &[fd.as_fd()])));
    drop(client);
    let _ = thread.join();
    Ok(())
}

fn ping_pong() -> std::io::Result<()> {
    let (mut here, mut there) = UnixStream::pair()?;
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; 32];
        while there.read_exact(&mut bytes).is_ok() && there.write_all(&bytes).is_ok() {}
    });
    let mut bytes = [0; 32];
    median("bare ping-pong", || {
        let _ = here.write_all(&bytes).and_then(|()| here.read_exact(&mut bytes));
    });
    drop(here);
    let _ = echo.join();
    Ok(())
}
