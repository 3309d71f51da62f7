//! A client written from the specification alone connects, changes what it can reach, and leaves, a
//! thousand times. Each client must find the device as the first client found it.
#![allow(clippy::cast_possible_truncation)] // All small.

mod common;

use common::{PENDING, RAISE, REGISTERS, Setup, TABLE, VECTORS, event, memfd};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use vfio_irq_user::Options;

/// Command numbers of the specification.
const VERSION: u16 = 1;
const DMA_MAP: u16 = 2;
const DMA_UNMAP: u16 = 3;
const GET_IRQ_INFO: u16 = 7;
const SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DEVICE_RESET: u16 = 13;

const CONFIG: u32 = 7;
const COMMAND: u64 = 4;

/// The next number of a sequence that looks random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % below
    }
}

/// The client. Its messages are made of bytes, by nothing but this file.
struct Plain {
    socket: UnixStream,
    next: u16,
    kept: Vec<OwnedFd>,
}

impl Plain {
    fn connect(setup: &Setup) -> Self {
        let socket = UnixStream::connect(&setup.path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut client = Self { socket, next: 0, kept: Vec::new() };
        let text = br#"{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576}}"#;
        let reply = client.ask(VERSION, &[&[0, 0, 1, 0][..], text, &[0]].concat(), &[]);
        assert_eq!(reply.unwrap()[..4], [0, 0, 1, 0]);
        client
    }

    fn message(&mut self, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
        self.next = self.next.wrapping_add(1);
        let mut bytes = self.next.to_ne_bytes().to_vec();
        bytes.extend(command.to_ne_bytes());
        bytes.extend((16 + payload.len() as u32).to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    /// Sends a command; its reply's payload, or the error number of its reply.
    fn ask(
        &mut self,
        command: u16,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<u8>, u32> {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let bytes = self.message(command, 0, payload);
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        let slices = [std::io::IoSlice::new(&bytes)];
        let sent = sendmsg(&self.socket, &slices, &mut control, SendFlags::NOSIGNAL).unwrap();
        self.socket.write_all(&bytes[sent..]).unwrap();
        let mut head = [0; 16];
        self.socket.read_exact(&mut head).unwrap();
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
        assert_eq!(head[..4], bytes[..4], "the reply has the command's ID and number");
        let mut payload = vec![0; word(4) as usize - 16];
        self.socket.read_exact(&mut payload).unwrap();
        match word(8) {
            1 => Ok(payload),
            0x21 => Err(word(12)),
            flags => panic!("a reply with flags {flags:#x}"),
        }
    }

    fn read(&mut self, region: u32, offset: u64, len: u32) -> Vec<u8> {
        let head = [&offset.to_ne_bytes()[..], &region.to_ne_bytes(), &len.to_ne_bytes()].concat();
        let reply = self.ask(REGION_READ, &head, &[]).unwrap();
        assert_eq!(reply[..16], head);
        reply[16..].to_vec()
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) {
        let len = data.len() as u32;
        let head = [&offset.to_ne_bytes()[..], &region.to_ne_bytes(), &len.to_ne_bytes()].concat();
        self.ask(REGION_WRITE, &[&head, data].concat(), &[]).unwrap();
    }

    fn set_irqs(&mut self, words: [u32; 5], fds: &[BorrowedFd<'_>]) -> Result<Vec<u8>, u32> {
        let payload: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.ask(SET_IRQS, &payload, fds)
    }

    fn dma(&mut self, command: u16, words: [u32; 2], longs: &[u64], fd: &[BorrowedFd<'_>]) {
        let mut payload: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        payload.extend(longs.iter().flat_map(|long| long.to_ne_bytes()));
        self.ask(command, &payload, fd).unwrap();
    }

    /// Where a capability is, as the list in configuration space says.
    fn capability(&mut self, id: u8) -> u64 {
        let space = self.read(CONFIG, 0, 256);
        let mut at = space[0x34];
        while at != 0 {
            if space[usize::from(at)] == id {
                return at.into();
            }
            at = space[usize::from(at) + 1];
        }
        panic!("no capability {id:#x}");
    }

    /// All that a client can see without changing anything.
    fn see(&mut self) -> Vec<(&'static str, Vec<u8>)> {
        let irqs = (0..5_u32)
            .flat_map(|index| {
                let words = [16, 0, index, 0].map(u32::to_ne_bytes).concat();
                self.ask(GET_IRQ_INFO, &words, &[]).unwrap()
            })
            .collect();
        vec![
            ("configuration space", self.read(CONFIG, 0, 4096)),
            ("registers", self.read(0, 0, REGISTERS as u32)),
            ("the table", self.read(0, TABLE.into(), 16 * VECTORS)),
            ("pending bits", self.read(0, PENDING.into(), VECTORS / 8)),
            ("interrupts", irqs),
        ]
    }
}

const EVENTFD: u32 = 4 | 32;

/// One thing that a client can do to the device.
fn act(client: &mut Plain, setup: &Setup, dice: &mut Dice) {
    let vector = dice.roll(6) as u32;
    match dice.roll(14) {
        0 => client.write(CONFIG, COMMAND, &[6, 4 * dice.roll(2) as u8]),
        1 => {
            let control = client.capability(0x11) + 3;
            client.write(CONFIG, control, &[[0x40, 0x80, 0xc0][dice.roll(3) as usize]]);
        }
        2 => {
            let mask = client.capability(5) + 16;
            client.write(CONFIG, mask, &[dice.roll(256) as u8]);
        }
        3 => client.write(CONFIG, 0x10 + 4 * dice.roll(6), &[0xff; 4]),
        4 => client.write(0, u64::from(TABLE) + 16 * u64::from(vector), &[0xa5; 12]),
        5 => client.write(0, 8 * dice.roll(200), &[0x5a; 8]),
        6 => {
            // Another index may be active: then this is EINVAL, which is as good.
            let (index, fd) = (dice.roll(5) as u32, event());
            let vector = if index == 1 || index == 2 { vector } else { 0 };
            let _ = client.set_irqs([20, EVENTFD, index, vector, 1], &[fd.as_fd()]);
            client.kept.push(fd);
        }
        7 => _ = client.set_irqs([20, 1 | 8, 2, vector, 1], &[]),
        8 => client.write(0, RAISE, &vector.to_le_bytes()),
        9 => setup.bus().interrupts.set_intx(true),
        10 => {
            let (file, at) = (memfd(0x1000), 0x1000 * (1 + client.next as u64));
            client.dma(DMA_MAP, [32, 3], &[0, at, 0x1000], &[file.as_fd()]);
        }
        11 => client.dma(DMA_MAP, [32, 3], &[0, 0x1000 * (1 + client.next as u64), 0x1000], &[]),
        12 => {
            let power = client.capability(1) + 4;
            client.write(CONFIG, power, &[3]);
        }
        _ if dice.roll(8) == 0 => _ = client.ask(DEVICE_RESET, &[], &[]).unwrap(),
        _ if dice.roll(8) == 0 => client.dma(DMA_UNMAP, [24, 2], &[0, 0], &[]),
        _ => {}
    }
}

fn leave(mut client: Plain, dice: &mut Dice) {
    match dice.roll(4) {
        // In the middle of a message.
        0 => {
            let bytes = client.message(REGION_WRITE, 0, &[0; 20]);
            client.socket.write_all(&bytes[..1 + dice.roll(34) as usize]).unwrap();
        }
        // With a command that the server has not answered.
        1 => {
            let bytes = client.message(DEVICE_RESET, 0, &[]);
            client.socket.write_all(&bytes).unwrap();
        }
        2 => client.socket.shutdown(std::net::Shutdown::Write).unwrap(),
        _ => {}
    }
}

/// What the client cannot see, but its device can.
fn hidden(setup: &Setup) {
    let bus = setup.bus();
    for vector in 0..VECTORS {
        let state = (
            bus.interrupts.is_attached(vector),
            bus.interrupts.is_masked(vector),
            bus.interrupts.is_pending(vector),
        );
        assert_eq!(state, (false, false, false), "vector {vector}");
    }
    assert!(!bus.interrupts.intx_is_asserted());
    assert_ne!(setup.diary.lock().unwrap().bus_master, Some(true));
}

/// Interrupts work, and all memory can be mapped.
fn works(client: &mut Plain, setup: &Setup, vector: u32) {
    let fd = event();
    client.set_irqs([20, EVENTFD, 2, vector, 1], &[fd.as_fd()]).unwrap();
    client.write(0, RAISE, &vector.to_le_bytes());
    assert_eq!(common::signals(&fd), 1);
    client.set_irqs([20, 1 | 32, 2, 0, 0], &[]).unwrap();
    client.write(CONFIG, COMMAND, &[6, 0]);
    assert_eq!(setup.diary.lock().unwrap().bus_master, Some(true), "COMMAND changed");
    client.dma(DMA_MAP, [32, 3], &[0, 0, 1 << 40], &[]);
}

#[test]
fn a_thousand_clients_find_a_fresh_device() {
    let wait = Duration::from_secs(600);
    let options = Options { succession: wait, handshake: wait, stall: wait, ..Options::default() };
    let setup = Setup::with(options);
    let mut dice = Dice(0x5eed);
    let first = Plain::connect(&setup).see();
    for turn in 0..1000 {
        let mut client = Plain::connect(&setup);
        for ((what, now), (_, before)) in client.see().iter().zip(&first) {
            assert!(now == before, "client {turn} finds other {what}");
        }
        hidden(&setup);
        if dice.roll(4) == 0 {
            works(&mut client, &setup, dice.roll(VECTORS.into()) as u32);
        } else {
            (0..dice.roll(12)).for_each(|_| act(&mut client, &setup, &mut dice));
        }
        leave(client, &mut dice);
    }
}
