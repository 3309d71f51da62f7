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
