//! Compares a raise with a bare write to the same eventfd.
//!
//! One thread alone, and threads that contend: on one vector, and each on a vector of its own.
//! Batches of raises and of writes take turns. `BATCHES` and `BATCH` change how many.

mod common;

use common::{Registers, median, number, ratio};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Barrier;
use std::time::Instant;
use vfio_irq_user::abi::Index;
use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::{Bus, Client, ClientOptions, Interrupts, Options, Raised, Server};

const VECTORS: u32 = 2048;
/// The goal for one thread; threads that contend have none.
const GOAL: f64 = 1.1;

/// One way to signal: through the interrupt engine, or without it.
#[derive(Clone, Copy)]
enum Signal<'a> {
    Raise(&'a Interrupts, u32),
    Write(BorrowedFd<'a>),
}

impl Signal<'_> {
    fn repeat(self, times: usize) {
        match self {
            Self::Raise(interrupts, vector) => (0..times).for_each(|_| {
                assert_eq!(interrupts.raise(vector), Raised::Signalled);
            }),
            Self::Write(fd) => (0..times).for_each(|_| {
                rustix::io::write(fd, &1_u64.to_ne_bytes()).expect("an eventfd takes a write");
            }),
        }
    }
}

/// Signals from one thread for each element of `signals`, all at the same time. Returns the
/// nanoseconds of one signal, as each thread sees it.
fn time(signals: &[Signal<'_>], batch: usize) -> f64 {
    let start = Barrier::new(signals.len());
    let one = |signal: Signal<'_>| {
        start.wait();
        let since = Instant::now();
        signal.repeat(batch);
        since.elapsed().as_secs_f64() * 1e9 / batch as f64
    };
    if let [signal] = signals {
        return one(*signal);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = signals.iter().map(|signal| scope.spawn(|| one(*signal))).collect();
        let times = threads.into_iter().map(|thread| thread.join().expect("a thread's time"));
        times.sum::<f64>() / signals.len() as f64
    })
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder for the socket");
    let path = folder.path().join("raise");
    let server = Server::start(Options::default()).expect("a server");
    let function = Function::builder(1, 2).bar(0, Bar::memory32(0x10000));
    let function = function.msix(VECTORS, 0, 0, 0x8000).build().expect("a function");
    let mut interrupts = None;
    let make = |bus: Bus| {
        interrupts = Some(bus.interrupts.clone());
        Registers
    };
    server.add(&path, function, make).expect("a device");
    let interrupts = interrupts.expect("the interrupts of the device");
    let client = Client::connect(&path, ClientOptions::default()).expect("a client");
    let event = |_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let fds: Vec<OwnedFd> = (0..4).map(event).collect::<Result<_, _>>().expect("eventfds");
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    client.attach(Index::Msix, 0, &borrowed).expect("attached vectors");

    let (batches, batch) = (number("BATCHES", 300), number("BATCH", 1000));
    println!("{batches} batches of {batch}; nanoseconds of one raise and of one bare write:");
    for (threads, vectors) in [(1, 1), (2, 1), (2, 2), (4, 1), (4, 4)] {
        let (raise, write): (Vec<_>, Vec<_>) = (0..)
            .zip(&borrowed)
            .map(|(vector, fd)| (Signal::Raise(&interrupts, vector), Signal::Write(*fd)))
            .take(vectors)
            .cycle()
            .take(threads)
            .unzip();
        let (mut raises, mut writes) = (Vec::new(), Vec::new());
        for round in 0..batches {
            // The order alternates, because the first of a pair may find other caches.
            for raise_now in [round % 2 == 0, round % 2 != 0] {
                if raise_now {
                    raises.push(time(&raise, batch));
                } else {
                    writes.push(time(&write, batch));
                }
            }
        }
        let ratio = ratio(&raises, &writes, (threads == 1).then_some(GOAL));
        let (raise, write) = (median(&raises), median(&writes));
        println!("threads {threads}, vectors {vectors}: {raise:7.1} {write:7.1}  ratio {ratio}");
    }
}
