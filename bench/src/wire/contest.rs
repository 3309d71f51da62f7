//! Asks the servers in turn and measures their answers.

use super::message::Message;
use super::ping::Pinger;
use super::servers::Sockets;
use crate::error::Error;
use crate::goal::{Goal, Kind};
use crate::stats::{Spread, median_of};
use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use vfio_irq_user::abi::Index;
use vfio_irq_user::{Client, ClientOptions};

/// Round trips before those that count: the server that was asked before falls asleep meanwhile.
const WARM_UP: usize = 20;
const VECTOR: u32 = 3;
/// A register of the device itself.
const REGISTER: u64 = 0x9000;

/// The times of one message, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The message.
    pub message: Message,
    /// Our server, which polls for the next message before it sleeps.
    pub polling_us: Spread,
    /// Our server, which sleeps at once.
    pub sleeping_us: Spread,
    /// rust-vmm's server.
    pub peer_us: Spread,
    /// The ping-pong.
    pub ping_us: Spread,
    /// The ping-pong that polls before it sleeps.
    pub polled_ping_us: Spread,
    /// Our polling server against rust-vmm's, round by round.
    pub polling_to_peer: Spread,
    /// The goal with a client that polls for its reply. The times of a client that sleeps contain
    /// its own wake-up, which is about half of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub polling_goal: Option<Goal>,
    /// Our polling server against the polling ping-pong, the least that a socket allows, round by
    /// round.
    pub polling_to_ping: Spread,
    /// Our sleeping server against the ping-pong, round by round.
    pub sleeping_to_ping: Spread,
    /// The goal for the sleeping server.
    pub sleeping_goal: Goal,
}

/// The results of all messages with one kind of client.
#[derive(Clone, Debug, Serialize)]
pub struct Block {
    /// How long the client polls for a reply before it sleeps, in microseconds.
    pub client_spin_us: u64,
    /// How often each server was asked.
    pub rounds: usize,
    /// Round trips of a turn.
    pub batch: usize,
    /// One row for each message.
    pub rows: Vec<Row>,
}

/// One of the servers under measurement.
enum Contestant {
    Device(Box<Client>),
    Ping(Vec<(Message, Pinger)>),
}

impl Contestant {
    fn device(path: &Path, spin: Duration) -> Result<Self, Error> {
        let options = ClientOptions { spin, ..ClientOptions::default() };
        let client = Client::connect(path, options);
        Ok(Self::Device(Box::new(client.map_err(Error::device("no client"))?)))
    }

    fn ping(path: &Path, spin: Duration) -> Result<Self, Error> {
        let connect = |message: Message| {
            let pinger = Pinger::connect(path, message.lengths(), spin);
            Ok((message, pinger.map_err(Error::system("no ping-pong"))?))
        };
        Ok(Self::Ping(Message::ALL.into_iter().map(connect).collect::<Result<_, Error>>()?))
    }

    /// Makes one round trip.
    fn ask(&self, message: Message, fds: &[OwnedFd; 2], turn: usize) -> Result<(), Error> {
        let fd = match message {
            Message::SetIrqsOther => &fds[turn % 2],
            _ => &fds[0],
        };
        let client = match self {
            Self::Device(client) => client,
            Self::Ping(pingers) => {
                let mut of = pingers.iter().filter(|(of, _)| *of == message);
                let asked = of.try_for_each(|(_, pinger)| pinger.ask(fd.as_fd()));
                return asked.map_err(Error::system("no ping-pong"));
            }
        };
        let answer = match message {
            Message::IrqInfo => client.irq_info(Index::Msix).map(drop),
            Message::RegionRead => client.region_read(0, REGISTER, &mut [0; 4]),
            Message::SetIrqsSame | Message::SetIrqsOther => {
                client.attach(Index::Msix, VECTOR, &[fd.as_fd()])
            }
        };
        answer.map_err(Error::device("no answer"))
    }

    /// Returns the median of a batch, in microseconds.
    fn turn(&self, message: Message, fds: &[OwnedFd; 2], batch: usize) -> Result<f64, Error> {
        for turn in 0..WARM_UP {
            self.ask(message, fds, turn)?;
        }
        let mut times = Vec::with_capacity(batch);
        for turn in 0..batch {
            let since = Instant::now();
            self.ask(message, fds, turn)?;
            times.push(since.elapsed().as_secs_f64() * 1e6);
        }
        median_of(times).ok_or(Error::Nothing("--batch"))
    }
}

/// Measures with a client that polls for a reply for `spin` before it sleeps. Returns the
/// block.
pub fn measure(
    sockets: &Sockets,
    spin: Duration,
    rounds: usize,
    batch: usize,
) -> Result<Block, Error> {
    let contestants = [
        Contestant::device(&sockets.polling, spin)?,
        Contestant::device(&sockets.sleeping, spin)?,
        Contestant::device(&sockets.peer, spin)?,
        Contestant::ping(&sockets.ping, spin)?,
        Contestant::ping(&sockets.polled_ping, spin)?,
    ];
    let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let event = || event().map_err(Error::system("no eventfd"));
    let fds = [event()?, event()?];
    let mut medians = Message::ALL.map(|message| (message, [const { Vec::new() }; 5]));
    for round in 0..rounds {
        for (message, medians) in &mut medians {
            // Each server is first equally often.
            for place in 0..contestants.len() {
                let who = (round + place) % contestants.len();
                medians[who].push(contestants[who].turn(*message, &fds, batch)?);
            }
        }
    }
    let rows = medians.into_iter().map(|(message, medians)| row(message, medians, !spin.is_zero()));
    let rows = rows.collect::<Option<_>>().ok_or(Error::Nothing("--rounds"))?;
    let client_spin_us = u64::try_from(spin.as_micros()).unwrap_or(u64::MAX);
    Ok(Block { client_spin_us, rounds, batch, rows })
}

/// Summarizes all rounds. Returns `None` without a round.
fn row(
    message: Message,
    [polling, sleeping, peer, ping, polled_ping]: [Vec<f64>; 5],
    client_looks: bool,
) -> Option<Row> {
    let polling_to_peer = Spread::of_ratios(&polling, &peer)?;
    let sleeping_to_ping = Spread::of_ratios(&sleeping, &ping)?;
    let polling_to_ping = Spread::of_ratios(&polling, &polled_ping)?;
    Some(Row {
        message,
        polling_us: Spread::of(polling)?,
        sleeping_us: Spread::of(sleeping)?,
        peer_us: Spread::of(peer)?,
        ping_us: Spread::of(ping)?,
        polled_ping_us: Spread::of(polled_ping)?,
        polling_to_peer,
        polling_goal: client_looks.then(|| Goal::new(Kind::AtMost, 0.5, polling_to_peer.median)),
        polling_to_ping,
        sleeping_to_ping,
        sleeping_goal: Goal::new(Kind::AtMost, 1.1, sleeping_to_ping.median),
    })
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::wire::message::Message;

    #[test]
    fn each_is_compared_with_its_own() {
        let ping = vec![8.0, 8.0];
        let times = [vec![2.0, 3.0], vec![8.0, 8.8], vec![8.0, 12.0], ping, vec![1.0, 1.5]];
        assert!(row(Message::IrqInfo, times.clone(), false).unwrap().polling_goal.is_none());
        let row = row(Message::IrqInfo, times, true).unwrap();
        assert!((row.polling_to_peer.median - 0.25).abs() < 1e-9);
        assert!(row.polling_goal.unwrap().met);
        assert!((row.sleeping_to_ping.median - 1.05).abs() < 1e-9);
        assert!(row.sleeping_goal.met);
        assert!((row.polling_to_ping.median - 2.0).abs() < 1e-9);
        assert!(row.peer_us.low >= 8.0 && row.peer_us.high <= 12.0);
        assert!(super::row(Message::IrqInfo, Default::default(), true).is_none());
    }
}
