//! Compares the round trips of five servers, which one client asks in turn.
//!
//! | server | what it does |
//! |---|---|
//! | polling | ours: polls for the next message for 50 µs before it sleeps (the default) |
//! | sleeping | ours: sleeps at once |
//! | rust-vmm | rust-vmm's `vfio_user`, which sleeps at once |
//! | ping-pong | answers as many bytes with blocking system calls, and parses none |
//! | polled | the same, and polls as long as our polling server |
//!
//! The polled ping-pong is the least that a round trip through a socket can take. The servers have
//! a process of their own, as in practice. If the machine has two processors, client and servers
//! stay on one each.
//!
//! The first goal holds for a client that polls. The figures of a client that sleeps contain its
//! own wake-up, which is about half of the time of rust-vmm's server. An idle virtual processor may
//! poll before it halts; then a wake-up costs almost nothing, and the ratios say little.
//!
//! rust-vmm's server drops the descriptor of a SET_IRQS. Ours checks that it is an eventfd, and
//! waits until no raise uses the old one.
//!
//! `ROUNDS` and `BATCH` change how often.

#[path = "../common/mod.rs"]
mod common;
mod ping;
mod servers;

use common::{median, number, ratio};
use ping::{Lengths, Pinger};
use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use vfio_irq_user::abi::Index;
use vfio_irq_user::{Client, ClientError, ClientOptions};

/// Round trips before those that count. The server that was asked before falls asleep meanwhile.
const WARM_UP: usize = 20;
/// A register of the device itself, not of its MSI-X table.
const REGISTER: u64 = 0x9000;
/// A polling server against rust-vmm's.
const POLLING_GOAL: f64 = 0.5;
/// A sleeping server against the ping-pong.
const SLEEPING_GOAL: f64 = 1.1;

/// A measured request, with the lengths of request and reply that the protocol defines.
#[derive(Clone, Copy)]
enum Message {
    IrqInfo,
    RegionRead,
    /// Attaches the eventfd that is attached already.
    SetIrqsSame,
    SetIrqsOther,
}

const MESSAGES: [(Message, &str, Lengths); 4] = [
    (Message::IrqInfo, "GET_IRQ_INFO", Lengths { request: 32, reply: 32, descriptor: false }),
    (Message::RegionRead, "REGION_READ", Lengths { request: 32, reply: 36, descriptor: false }),
    (Message::SetIrqsSame, "SET_IRQS, same", Lengths { request: 36, reply: 16, descriptor: true }),
    (
        Message::SetIrqsOther,
        "SET_IRQS, other",
        Lengths { request: 36, reply: 16, descriptor: true },
    ),
];

enum Contestant {
    Device(Box<Client>),
    /// A connection for each message, because the lengths belong to the connection.
    Ping([Pinger; MESSAGES.len()]),
}

impl Contestant {
    fn device(path: &Path, spin: Duration) -> Self {
        let options = ClientOptions { spin, ..ClientOptions::default() };
        Self::Device(Box::new(Client::connect(path, options).expect("a client")))
    }

    fn ping(path: &Path, spin: Duration) -> Self {
        Self::Ping(MESSAGES.map(|(_, _, lengths)| {
            Pinger::connect(path, lengths, spin).expect("a ping-pong's client")
        }))
    }

    /// Makes one round trip.
    fn ask(&self, message: Message, fds: &[OwnedFd; 2], turn: usize) -> Result<(), ClientError> {
        let fd = match message {
            Message::SetIrqsOther => &fds[turn % 2],
            _ => &fds[0],
        };
        let client = match self {
            Self::Device(client) => client,
            Self::Ping(pingers) => {
                pingers[message as usize].ask(fd.as_fd()).expect("a ping-pong's answer");
                return Ok(());
            }
        };
        match message {
            Message::IrqInfo => client.irq_info(Index::Msix).map(drop),
            Message::RegionRead => client.region_read(0, REGISTER, &mut [0; 4]),
            Message::SetIrqsSame | Message::SetIrqsOther => {
                client.attach(Index::Msix, 3, &[fd.as_fd()])
            }
        }
    }

    /// Returns the median of a batch in microseconds.
    fn turn(&self, message: Message, fds: &[OwnedFd; 2], batch: usize) -> f64 {
        let mut times = Vec::with_capacity(batch);
        for turn in 0..WARM_UP + batch {
            let since = Instant::now();
            self.ask(message, fds, turn).expect("an answer");
            times.push(since.elapsed().as_secs_f64() * 1e6);
        }
        median(&times[WARM_UP..])
    }
}

/// Measures with a client that polls for a reply for `spin` before it sleeps.
fn measure(folder: &Path, spin: Duration, fds: &[OwnedFd; 2], rounds: usize, batch: usize) {
    let at = |name: &str| folder.join(name);
    let contestants = [
        Contestant::device(&at(servers::POLLING), spin),
        Contestant::device(&at(servers::SLEEPING), spin),
        Contestant::device(&at(servers::RUST_VMM), spin),
        Contestant::ping(&at(servers::PING), spin),
        Contestant::ping(&at(servers::POLLED_PING), spin),
    ];
    println!("\nMicroseconds, client polls for {spin:?}; {rounds} rounds of {batch}:");
    println!("{:16} polling sleeping rust-vmm ping-pong polled", "");
    for (message, name, _) in MESSAGES {
        let mut times = [const { Vec::new() }; 5];
        for round in 0..rounds {
            // Each server is first equally often.
            for place in 0..contestants.len() {
                let which = (round + place) % contestants.len();
                times[which].push(contestants[which].turn(message, fds, batch));
            }
        }
        let [a, b, c, d, e] = times.each_ref().map(|times| median(times));
        println!("{name:16} {a:7.2} {b:8.2} {c:8.2} {d:9.2} {e:6.2}");
        let [polling, sleeping, peer, ping, polled] = &times;
        let goal = (!spin.is_zero()).then_some(POLLING_GOAL);
        println!("  polling/rust-vmm   {}", ratio(polling, peer, goal));
        println!("  polling/polled     {}", ratio(polling, polled, None));
        println!("  sleeping/ping-pong {}", ratio(sleeping, ping, Some(SLEEPING_GOAL)));
    }
}

/// Keeps this process, and the threads that it will start, on the usable processor of this place.
/// Does nothing on a machine with one processor.
fn stay_on(place: usize) -> io::Result<()> {
    let set = sched_getaffinity(None)?;
    let usable: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    if let (Some(cpu), true) = (usable.get(place), usable.len() > 1) {
        let mut one = CpuSet::new();
        one.set(*cpu);
        sched_setaffinity(None, &one)?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    if let Some(folder) = servers::requested() {
        stay_on(1)?;
        return servers::run(&folder);
    }
    let folder = tempfile::tempdir()?;
    // The process is started first: it inherits the processors that this one may use.
    let servers = servers::Process::start(folder.path())?;
    stay_on(0)?;
    let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let fds = [event()?, event()?];
    let (rounds, batch) = (number("ROUNDS", 40), number("BATCH", 100));
    for spin in [ClientOptions::default().spin, Duration::ZERO] {
        measure(folder.path(), spin, &fds, rounds, batch);
    }
    drop(servers);
    Ok(())
}
