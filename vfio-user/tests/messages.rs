//! Memory by messages, with a client that answers the device only while no command of its own is
//! unanswered, as QEMU without shared memory does.
#![allow(clippy::cast_possible_truncation)] // All small.

mod common;

use common::{Raw, longs, words};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::wire::{Command, Header};
use vfio_irq_user::{Bus, Device, Errno, Options, errno};

/// What an access of the device's came to.
type Outcome = Result<Vec<u8>, Errno>;

/// A device with a thread for each access: a write of an address reads eight bytes from there.
struct Reader {
    bus: Bus,
    threads: Vec<JoinHandle<()>>,
    outcomes: Sender<Outcome>,
}

impl Device for Reader {
    /// Reads the client's memory in the thread that answers the client.
    fn read(&mut self, _: u32, _: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.bus.memory.read(0, data)
    }

    fn write(&mut self, _: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let address = u64::from_le_bytes(data.try_into().map_err(|_| Errno::EINVAL)?);
        let (memory, outcomes) = (self.bus.memory.clone(), self.outcomes.clone());
        self.threads.push(std::thread::spawn(move || {
            let mut bytes = vec![0; if offset == 0 { 8 } else { offset as usize }];
            let outcome = memory.read(address, &mut bytes).map(|()| bytes);
            let _ = outcomes.send(outcome);
        }));
        Ok(())
    }

    fn reset(&mut self) {
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

struct Setup {
    raw: Raw,
    outcomes: Receiver<Outcome>,
    _served: common::Served,
}

impl Setup {
    /// A client with two pages that it serves by messages.
    fn new(options: Options) -> Self {
        Self::proposing(options, &[])
    }

    fn proposing(options: Options, capabilities: &[u8]) -> Self {
        let function = Function::builder(1, 2).bar(0, Bar::memory32(1 << 20));
        let (outcomes, seen) = channel();
        let make = |bus| Reader { bus, threads: Vec::new(), outcomes };
        let served = common::serve(options, function, make);
        let mut raw = Raw(UnixStream::connect(&served.path).unwrap());
        raw.send(1, Command::Version.raw(), 0, &[&[0, 0, 1, 0], capabilities].concat(), &[]);
        assert_eq!(raw.reply().unwrap().0.errno(), None);
        let mut setup = Self { raw, outcomes: seen, _served: served };
        for at in [0, 0x8000] {
            assert_eq!(setup.map(at), None);
        }
        setup
    }

    fn patient() -> Self {
        let (stall, transfer) = (Duration::from_secs(600), 4096);
        Self::new(Options { stall, transfer, ..common::options() })
    }

    fn map(&mut self, at: u64) -> Option<Errno> {
        self.raw.ask(Command::DmaMap, &common::map(at, 0x1000), &[])
    }

    fn unmap(&mut self, at: u64) -> Option<Errno> {
        self.raw.ask(Command::DmaUnmap, &common::unmap(at, 0x1000), &[])
    }

    fn unmap_all(&mut self) -> Option<Errno> {
        let payload = [words(&[24, 2]), longs(&[0, 0])].concat();
        self.raw.ask(Command::DmaUnmap, &payload, &[])
    }

    /// Has the device read eight bytes, or `len`; what it asks for.
    fn read_at(&mut self, address: u64, len: u64) -> (Header, Vec<u8>) {
        let offset = if len == 8 { 0 } else { len };
        let write = [longs(&[offset]), words(&[0, 8]), longs(&[address])].concat();
        // Posted, so that what comes next is the device's command.
        self.raw.send(8, Command::RegionWrite.raw(), 0x10, &write, &[]);
        self.raw.reply().expect("a command of the device's")
    }

    fn answer(&mut self, asked: &Header, range: &[u8], data: &[u8]) {
        let payload = [range, data].concat();
        self.raw.send(asked.id, asked.command, 1, &payload, &[]);
    }

    fn outcome(&self) -> Outcome {
        self.outcomes.recv_timeout(Duration::from_secs(20)).expect("the access ends")
    }

    fn is_alive(&mut self) {
        assert_eq!(self.raw.ask(Command::DeviceGetInfo, &common::info(), &[]), None);
    }
}

#[test]
fn what_concerns_other_memory_does_not_wait_for_an_answer() {
    let mut setup = Setup::patient();
    let (asked, range) = setup.read_at(0x10, 8);
    assert_eq!((asked.command, &range), (Command::DmaRead.raw(), &longs(&[0x10, 8])));
    assert_eq!(setup.map(0x2_0000), None);
    assert_eq!(setup.unmap(0x8000), None);
    assert_eq!(setup.map(0x8000), None);
    setup.answer(&asked, &range, b"answered");
    assert_eq!(setup.outcome(), Ok(b"answered".to_vec()));
}

#[test]
fn unmapping_abandons_what_is_not_answered() {
    for all in [false, true] {
        let mut setup = Setup::patient();
        let (asked, range) = setup.read_at(0x10, 8);
        assert_eq!(if all { setup.unmap_all() } else { setup.unmap(0) }, None);
        assert_eq!(setup.outcome(), Err(Errno::EFAULT));
        // The answer comes late, and is no answer to what is asked of the next mapping.
        assert_eq!(setup.map(0), None);
        let (again, _) = setup.read_at(0x10, 8);
        assert_ne!(again.id, asked.id);
        setup.answer(&asked, &range, b"too late");
        setup.answer(&again, &range, b"in time.");
        assert_eq!(setup.outcome(), Ok(b"in time.".to_vec()));
        setup.is_alive();
    }
}

#[test]
fn a_reset_abandons_what_is_not_answered() {
    let mut setup = Setup::patient();
    let questions = [setup.read_at(0x10, 8), setup.read_at(0x8010, 8), setup.read_at(0x20, 8)];
    // The device waits for its threads in its reset.
    assert_eq!(setup.raw.ask(Command::DeviceReset, &[], &[]), None);
    (0..3).for_each(|_| assert_eq!(setup.outcome(), Err(errno::ECANCELED)));
    for (asked, range) in &questions {
        setup.answer(asked, range, b"too late");
    }
    let (asked, range) = setup.read_at(0x10, 8);
    setup.answer(&asked, &range, b"in time.");
    assert_eq!(setup.outcome(), Ok(b"in time.".to_vec()));
}

/// An access of several messages must not go on with the next message.
#[test]
fn a_reset_ends_accesses_between_two_messages() {
    let mut setup = Setup::patient();
    assert_eq!(setup.unmap(0), None);
    assert_eq!(setup.unmap(0x8000), None);
    assert_eq!(setup.raw.ask(Command::DmaMap, &common::map(0, 0x10_0000), &[]), None);
    let (asked, range) = setup.read_at(0, 0x3000);
    // The reset comes with the answer, so the device may have asked for more or not.
    setup.answer(&asked, &range, &[0; 0x1000]);
    setup.raw.send(9, Command::DeviceReset.raw(), 0, &[], &[]);
    let mut replies = Vec::new();
    while !replies.contains(&Command::DeviceReset.raw()) {
        replies.push(setup.raw.reply().expect("an answer to RESET").0.command);
    }
    assert!(replies.len() <= 3, "{replies:?}");
    if setup.outcome() != Err(errno::ECANCELED) {
        panic!("the whole was never answered");
    }
}

#[test]
fn the_thread_that_answers_does_not_ask() {
    let mut setup = Setup::patient();
    let read = [longs(&[0]), words(&[0, 8])].concat();
    assert_eq!(setup.raw.ask(Command::RegionRead, &read, &[]), Some(errno::EDEADLK));
    setup.is_alive();
}

#[test]
fn a_reply_to_nothing_ends_the_connection_and_so_does_a_second_one() {
    let mut setup = Setup::patient();
    let (asked, range) = setup.read_at(0x10, 8);
    setup.answer(&asked, &range, b"answered");
    setup.answer(&asked, &range, b"answered");
    assert_eq!(setup.outcome(), Ok(b"answered".to_vec()));
    assert!(setup.raw.is_closed());
}

/// A client that unmaps instead of answering has the server remember what it owes.
#[test]
fn answers_are_not_owed_without_end() {
    let mut setup = Setup::patient();
    for _ in 0..1024 {
        setup.read_at(0x10, 8);
        assert_eq!(setup.unmap(0), None);
        assert_eq!(setup.map(0), None);
        assert_eq!(setup.outcome(), Err(Errno::EFAULT));
    }
    let write = [longs(&[0]), words(&[0, 8]), longs(&[0x10])].concat();
    setup.raw.send(8, Command::RegionWrite.raw(), 0x10, &write, &[]);
    assert!(setup.raw.is_closed());
}

/// Answers everything that the device asks for, from memory whose bytes count. Returns the longest piece.
fn serve(setup: &mut Setup, address: u64, len: u64) -> u64 {
    let (mut asked, mut range) = setup.read_at(address, len);
    let (mut at, mut longest) = (address, 0);
    loop {
        let [from, count] = [0, 8].map(|i| u64::from_ne_bytes(range[i..i + 8].try_into().unwrap()));
        assert_eq!(from, at);
        let data: Vec<u8> = (from..from + count).map(|i| (i % 251) as u8).collect();
        setup.answer(&asked, &range, &data);
        (at, longest) = (at + count, longest.max(count));
        if at == address + len {
            return longest;
        }
        (asked, range) = setup.raw.reply().expect("a command of the device's");
    }
}

#[test]
fn the_device_asks_for_what_both_sides_can_take() {
    for (server, client, expected) in [
        (4096, 1 << 20, 4096),
        (1 << 20, 4096, 4096),
        (4096, 1000, 1000),
        (2 << 20, 2 << 20, 70_000),
    ] {
        let text = format!("{{\"capabilities\":{{\"max_data_xfer_size\":{client}}}}}\0");
        let options = Options { transfer: server, ..common::options() };
        let mut setup = Setup::proposing(options, text.as_bytes());
        let map = common::map(0x10_0000, 0x10_0000);
        assert_eq!(setup.raw.ask(Command::DmaMap, &map, &[]), None);
        assert_eq!(serve(&mut setup, 0x10_0000, 70_000), expected);
        let expected: Vec<u8> =
            (0x10_0000_u32..0x10_0000 + 70_000).map(|i| (i % 251) as u8).collect();
        assert!(setup.outcome() == Ok(expected));
    }
}
