//! A guest that does anything to an NVMe controller: registers, doorbells, commands and lists of pages
//! that make sense or not, memory that comes and goes, resets at any time. Nothing panics, and a guest
//! that behaves finds a controller that works afterwards.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use vfio_irq_nvme_device::{Controller, Counts, Disk, Settings};
use vfio_irq_user::wire::{Header, Packet, Reply};
use vfio_irq_user::{Endpoint, Flow, Grants, Session};

/// The guest's memory: where it begins, and its bytes.
const BASE: u64 = 0x10_0000;
const MEMORY: u64 = 0x3_0000;
/// Where the admin queues are; those of the others follow, four pages each.
const QUEUES: u64 = BASE;
const QUEUE_PAGES: u64 = 0x4000;
const DATA: u64 = BASE + 0x1_8000;
const LISTS: u64 = BASE + 0x2_0000;
const SHADOW: u64 = BASE + 0x2_8000;
const EVENTS: u64 = BASE + 0x2_9000;

/// I/O queues.
const COUNT: u16 = 4;
const ENTRIES: u32 = 16;

const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const DOORBELLS: u64 = 0x1000;
const CONFIG: u32 = 7;

/// Commands of vfio-user.
const VERSION: u16 = 1;
const MAP: u16 = 2;
const UNMAP: u16 = 3;
const READ: u16 = 9;
const WRITE: u16 = 10;
const RESET: u16 = 13;

/// Takes bytes off the front; zeros when there are no more.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }
}

struct Guest<'e> {
    session: Session<'e>,
    memory: OwnedFd,
    counts: Counts,
    reply: Reply,
    tails: [u32; COUNT as usize + 1],
    id: u16,
}

impl Guest<'_> {
    /// Sends a message; the payload of its reply, unless it is an error.
    fn send(&mut self, command: u16, payload: &[u8], fd: Option<OwnedFd>) -> Option<Vec<u8>> {
        let size = (payload.len() + Header::LEN) as u32;
        let header = Header { id: 1, command, size, flags: 0, error: 0 };
        let message = [&header.to_bytes()[..], payload].concat();
        let packet = Packet::split(&message).unwrap().unwrap();
        let mut fds: Vec<OwnedFd> = fd.into_iter().collect();
        assert_eq!(self.session.handle(packet, &mut fds, false, &mut self.reply), Flow::On);
        let reply = Packet::split(self.reply.bytes()).unwrap().unwrap();
        reply.header().errno().is_none().then(|| reply.payload().to_vec())
    }

    fn access(region: u32, offset: u64, count: usize) -> Vec<u8> {
        let words = [region.to_le_bytes(), (count as u32).to_le_bytes()].concat();
        [&offset.to_le_bytes()[..], &words].concat()
    }

    fn set(&mut self, region: u32, offset: u64, data: &[u8]) {
        let payload = [&Self::access(region, offset, data.len())[..], data].concat();
        self.send(WRITE, &payload, None);
    }

    fn get(&mut self, offset: u64) -> u32 {
        let reply = self.send(READ, &Self::access(0, offset, 4), None).unwrap();
        u32::from_le_bytes(reply[16..20].try_into().unwrap())
    }

    fn map(&mut self) {
        let fd = self.memory.try_clone().unwrap();
        let head = [32_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
        let place = [0, BASE, MEMORY].map(u64::to_le_bytes).concat();
        self.send(MAP, &[head, place].concat(), Some(fd));
    }

    fn unmap(&mut self) {
        let head = [24_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat();
        let place = [BASE, MEMORY].map(u64::to_le_bytes).concat();
        self.send(UNMAP, &[head, place].concat(), None);
    }

    fn write(&self, address: u64, data: &[u8]) {
        let at = (address - BASE).min(MEMORY - data.len() as u64);
        rustix::io::pwrite(&self.memory, data, at).unwrap();
    }

    fn read(&self, address: u64) -> u32 {
        let mut word = [0; 4];
        rustix::io::pread(&self.memory, &mut word, address - BASE).unwrap();
        u32::from_le_bytes(word)
    }

    fn bus_master(&mut self, on: bool) {
        self.set(CONFIG, 4, &[if on { 6 } else { 2 }, 0]);
    }

    fn enable(&mut self) {
        self.set(0, 0x24, &(ENTRIES - 1 | (ENTRIES - 1) << 16).to_le_bytes());
        self.set(0, 0x28, &QUEUES.to_le_bytes());
        self.set(0, 0x30, &(QUEUES + 0x2000).to_le_bytes());
        self.write(QUEUES + 0x2000, &[0; 0x1000]);
        self.tails = [0; COUNT as usize + 1];
        self.set(0, CC, &0x0046_0001_u32.to_le_bytes());
    }

    /// Puts a command into a queue and tells of it, by the register, in memory, or both.
    fn submit(&mut self, queue: u16, mut words: [u32; 16], how: u8) {
        self.id = self.id.wrapping_add(1);
        words[0] = words[0] & 0xffff | u32::from(self.id) << 16;
        let tail = &mut self.tails[usize::from(queue)];
        let place = QUEUES + u64::from(queue) * QUEUE_PAGES + u64::from(*tail) * 64;
        *tail = (*tail + 1) % ENTRIES;
        let tail = tail.to_le_bytes();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(place, &bytes);
        if how & 1 != 0 {
            self.write(SHADOW + 8 * u64::from(queue), &tail);
        }
        if how & 3 != 1 {
            self.set(0, DOORBELLS + 8 * u64::from(queue), &tail);
        }
    }

    /// Creates a queue, both halves, and waits a moment for it. The controller ignores a doorbell
    /// that the guest writes before the queue exists.
    fn create(&mut self, queue: u16) {
        let before = self.counts.totals().others;
        let place = QUEUES + u64::from(queue) * QUEUE_PAGES;
        let size = u32::from(queue) | (ENTRIES - 1) << 16;
        self.tails[usize::from(queue)] = 0;
        self.write(place + 0x2000, &[0; 0x1000]);
        let (cq, sq) = (place as u32 + 0x2000, place as u32);
        let make = |opcode, prp, word11| {
            let mut words = [0; 16];
            (words[0], words[6], words[10], words[11]) = (opcode, prp, size, word11);
            words
        };
        self.submit(0, make(5, cq, 3 | u32::from(queue) << 16), 2);
        self.submit(0, make(1, sq, 1 | u32::from(queue) << 16), 2);
        for _ in 0..50 {
            if self.counts.totals().others >= before + 2 {
                break;
            }
            std::thread::yield_now();
        }
    }
}

/// An address: of memory, of none, odd, at the end of something.
fn address(input: &mut Input<'_>) -> u64 {
    let end = BASE + MEMORY;
    let at = input.pick(&[DATA, LISTS, DATA + 0x1000, QUEUES, SHADOW, EVENTS, end, 0, u64::MAX]);
    let step = [0, 4, 8, 0xff8, 0x1000, 2, u64::MAX - 7, u64::MAX - 0xfff];
    at.wrapping_add(input.pick(&step))
}

fn command(input: &mut Input<'_>, opcodes: &[u8]) -> [u32; 16] {
    let mut words = [0; 16];
    let opcode = input.byte();
    words[0] = u32::from(if opcode & 0x80 == 0 { input.pick(opcodes) } else { input.byte() });
    words[0] |= if opcode == 0x7f { u32::from(input.byte()) << 8 } else { 0 };
    words[1] = input.pick(&[1, 1, 1, 0, u32::MAX, 2]);
    for at in [6, 8] {
        let address = address(input);
        (words[at], words[at + 1]) = (address as u32, (address >> 32) as u32);
    }
    for word in &mut words[10..14] {
        *word = match input.byte() {
            small @ 0..128 => small.into(),
            mixed @ 128..192 => u32::from(mixed & 7) | u32::from(input.byte()) << 16,
            _ => input.word(),
        };
    }
    words
}

fn act(guest: &mut Guest<'_>, input: &mut Input<'_>) {
    const ADMIN: &[u8] = &[0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 0x7c];
    const IO: &[u8] = &[0, 1, 2, 8, 9];
    let queue = |input: &mut Input<'_>| u16::from(input.byte()) % COUNT + 1;
    match input.byte() % 16 {
        0..3 => {
            let words = command(input, ADMIN);
            guest.submit(0, words, input.byte());
        }
        3..7 => {
            let (queue, words) = (queue(input), command(input, IO));
            guest.submit(queue, words, input.byte());
        }
        7 => {
            let queue = queue(input);
            guest.create(queue);
        }
        8 => {
            let offset = u64::from(input.byte()) * 4;
            let value = input.word();
            guest.set(0, DOORBELLS + offset % 64, &value.to_le_bytes());
        }
        9 => {
            let (place, value) = (input.pick(&[SHADOW, EVENTS]), input.word() & 0x1f);
            guest.write(place + u64::from(input.byte() % 16) * 4, &value.to_le_bytes());
        }
        10 => {
            let list: Vec<u8> = (0..16).flat_map(|_| address(input).to_le_bytes()).collect();
            let place = LISTS + u64::from(input.byte()) * 0x80;
            guest.write(place, &list);
        }
        11 => {
            let offset = input.pick(&[CC, CC, 0x24, 0x28, 0x2c, 0x30, 0x34, 0, CSTS, 0x20, 0xffc]);
            let value = input.word();
            guest.set(0, offset, &value.to_le_bytes()[..usize::from(input.byte() % 4) + 1]);
        }
        12 => match input.byte() % 8 {
            0 => guest.unmap(),
            1 => guest.map(),
            2 => guest.bus_master(false),
            3 => guest.bus_master(true),
            4 => drop(guest.send(RESET, &[], None)),
            5 => guest.set(0, CC, &[0; 4]),
            6 => guest.set(0, CC, &0x0046_4001_u32.to_le_bytes()),
            _ => guest.enable(),
        },
        13 => {
            let number = u64::from(input.byte() % 5);
            let head = u32::from(input.byte()) % ENTRIES;
            guest.set(0, DOORBELLS + 8 * number + 4, &head.to_le_bytes());
        }
        14 => {
            let mut words = [0; 16];
            (words[0], words[6], words[8]) = (0x7c, SHADOW as u32, EVENTS as u32);
            guest.submit(0, words, 2);
        }
        // The controller does something meanwhile.
        _ => std::thread::yield_now(),
    }
}

/// A controller that is enabled by a guest that behaves answers.
fn check(guest: &mut Guest<'_>) {
    guest.send(RESET, &[], None).unwrap();
    guest.unmap();
    guest.map();
    guest.bus_master(true);
    guest.enable();
    guest.create(1);
    // Two queues are made; then there is a command of theirs, which names no namespace.
    await_completion(guest, 0, 0);
    await_completion(guest, 16, 0);
    guest.submit(1, [0; 16], 2);
    await_completion(guest, QUEUE_PAGES, 0x400b);
}

/// Waits for a completion, so far behind those of the admin queue.
fn await_completion(guest: &mut Guest<'_>, at: u64, status: u32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut last = 0;
    while last >> 16 & 1 == 0 {
        last = guest.read(QUEUES + 0x2000 + at + 12);
        assert!(Instant::now() < deadline, "no completion, status {:#x}", guest.get(CSTS));
        std::thread::yield_now();
    }
    assert_eq!(last >> 17, status, "completion {at:#x}");
}

/// The lowest descriptor that is free: a leak moves it.
fn next_fd() -> i32 {
    eventfd(0, EventfdFlags::CLOEXEC).unwrap().as_raw_fd()
}

/// A disk in memory; one that is a file has its commands carried out by several threads.
fn disk(file: bool) -> Disk {
    const SIZE: u64 = 1 << 20;
    if !file {
        return Disk::memory(SIZE).unwrap();
    }
    let file = memfd_create("disk", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, SIZE).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Disk::open(path.as_ref()).unwrap()
}

fuzz_target!(|bytes: &[u8]| {
    let before = next_fd();
    let settings = Settings { queues: COUNT, serial: "fuzz".into() };
    let mut input = Input(bytes);
    let disk = disk(input.byte().is_multiple_of(2));
    let function = settings.function().unwrap();
    let mut counts = None;
    let mut endpoint = Endpoint::new(function, |bus| {
        let controller = Controller::new(bus, disk, &settings);
        counts = Some(controller.counts());
        controller
    });
    let session = Session::new(&mut endpoint, Grants { transfer: 1 << 16, dma_maps: 8 });
    let memory = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, MEMORY).unwrap();
    let tails = [0; COUNT as usize + 1];
    let (counts, reply) = (counts.unwrap(), Reply::default());
    let mut guest = Guest { session, memory, counts, reply, tails, id: 0 };
    guest.send(VERSION, &[0, 0, 1, 0], None).unwrap();
    guest.map();
    guest.bus_master(true);
    guest.enable();
    while !input.0.is_empty() {
        act(&mut guest, &mut input);
    }
    check(&mut guest);
    drop(guest);
    drop(endpoint);
    assert_eq!(next_fd(), before, "a descriptor is left over");
});
