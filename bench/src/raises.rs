//! Compares a raise with a bare write to an eventfd.

use crate::device::Registers;
use crate::error::Error;
use crate::goal::{Goal, Kind};
use crate::stats::Spread;
use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Instant;
use vfio_irq_user::abi::Index;
use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::{Bus, Client, ClientOptions, Interrupts, Options, Raised, Server};

const VECTOR: u32 = 3;

/// The cost of interrupts.
#[derive(Clone, Debug, Serialize)]
pub struct Raises {
    /// Batches of each kind, made in turn.
    pub batches: usize,
    /// Interrupts in a batch.
    pub batch: usize,
    /// Nanoseconds of one raise.
    pub raise_ns: Spread,
    /// Nanoseconds of one bare write to the same eventfd.
    pub write_ns: Spread,
    /// Interrupts that one thread raises in a second.
    pub per_second: f64,
    /// The ratio of one raise to one write, batch by batch.
    pub ratio: Spread,
    /// The goal for the ratio.
    pub goal: Goal,
}

/// Measures the raises. Returns the result.
pub fn measure(folder: &Path, batches: usize, batch: usize) -> Result<Raises, Error> {
    let server = Server::start(Options::default()).map_err(Error::device("no server"))?;
    let function = Function::builder(1, 2)
        .bar(0, Bar::memory32(0x10000))
        .msix(2048, 0, 0, 0x8000)
        .build()
        .map_err(Error::device("no such device"))?;
    let (path, mut interrupts) = (folder.join("raises"), None);
    let make = |bus: Bus| {
        interrupts = Some(bus.interrupts.clone());
        Registers
    };
    server.add(&path, function, make).map_err(Error::device("no socket"))?;
    let interrupts = interrupts.ok_or(Error::NotSignalled)?;
    let client = Client::connect(&path, ClientOptions::default());
    let client = client.map_err(Error::device("no client"))?;
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let fd = fd.map_err(Error::system("no eventfd"))?;
    client.attach(Index::Msix, VECTOR, &[fd.as_fd()]).map_err(Error::device("no vector"))?;
    if interrupts.raise(VECTOR) != Raised::Signalled {
        return Err(Error::NotSignalled);
    }
    alternate(&interrupts, fd.as_fd(), batches, batch)
}

fn alternate(
    interrupts: &Interrupts,
    fd: BorrowedFd<'_>,
    batches: usize,
    batch: usize,
) -> Result<Raises, Error> {
    let (mut raises, mut writes) = (Vec::new(), Vec::new());
    for round in 0..batches {
        // The order alternates, in case it matters.
        for first in [round % 2 == 0, round % 2 != 0] {
            if first {
                raises.push(time_raises(interrupts, batch)?);
            } else {
                writes.push(time_writes(fd, batch)?);
            }
        }
    }
    let (ratio, raise_ns, write_ns) =
        (Spread::of_ratios(&raises, &writes), Spread::of(raises), Spread::of(writes));
    let nothing = || Error::Nothing("--batches");
    let ratio = ratio.ok_or_else(nothing)?;
    let (raise_ns, write_ns) = (raise_ns.ok_or_else(nothing)?, write_ns.ok_or_else(nothing)?);
    let goal = Goal::new(Kind::AtMost, 1.1, ratio.median);
    let per_second = 1e9 / raise_ns.median;
    Ok(Raises { batches, batch, raise_ns, write_ns, per_second, ratio, goal })
}

/// Returns the nanoseconds of one operation.
#[allow(clippy::cast_precision_loss)] // Thousands.
fn each(since: Instant, batch: usize) -> f64 {
    since.elapsed().as_secs_f64() * 1e9 / batch as f64
}

fn time_raises(interrupts: &Interrupts, batch: usize) -> Result<f64, Error> {
    let since = Instant::now();
    for _ in 0..batch {
        if interrupts.raise(VECTOR) != Raised::Signalled {
            return Err(Error::NotSignalled);
        }
    }
    Ok(each(since, batch))
}

fn time_writes(fd: BorrowedFd<'_>, batch: usize) -> Result<f64, Error> {
    let since = Instant::now();
    for _ in 0..batch {
        rustix::io::write(fd, &1_u64.to_ne_bytes()).map_err(Error::system("no write"))?;
    }
    Ok(each(since, batch))
}
