//! A client that does not answer the controller before its own command is answered.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use vfio_irq_nvme_device::{Controller, Disk, Settings};
use vfio_irq_user::pci::region::CONFIG;
use vfio_irq_user::wire::{Command, Header};
use vfio_irq_user::{Options, Server};

const AQA: u64 = 0x24;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const ENABLE: u32 = 0x0046_0001;

struct Plain {
    socket: UnixStream,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Plain {
    fn new() -> Self {
        let (folder, stall) = (tempfile::tempdir().unwrap(), Duration::from_secs(600));
        let path = folder.path().join("nvme.sock");
        let settings = Settings { queues: 2, serial: "unanswered".into() };
        let server = Server::start(Options { stall, ..Options::default() }).unwrap();
        let disk = Disk::memory(1 << 20).unwrap();
        let make = |bus| Controller::new(bus, disk, &settings);
        server.add(&path, settings.function().unwrap(), make).unwrap();
        let socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Self { socket, _server: server, _folder: folder };
        client.ask(Command::Version, &[0, 0, 1, 0]);
        let longs = [0_u64, 0, 1 << 20].map(u64::to_ne_bytes).concat();
        client
            .ask(Command::DmaMap, &[&[32, 3].map(u32::to_ne_bytes).concat()[..], &longs].concat());
        client.write(CONFIG, 4, &[6, 0]);
        client
    }

    fn send(&mut self, command: u16, flags: u32, id: u16, payload: &[u8]) {
        let size = (16 + payload.len()) as u32;
        let header = Header { id, command, size, flags, error: 0 };
        self.socket.write_all(&[&header.to_bytes()[..], payload].concat()).unwrap();
    }

    fn next(&mut self) -> (Header, Vec<u8>) {
        let mut head = [0; 16];
        self.socket.read_exact(&mut head).expect("a message in time");
        let header = Header::from_bytes(&head);
        let mut payload = vec![0; header.size as usize - 16];
        self.socket.read_exact(&mut payload).unwrap();
        (header, payload)
    }

    /// Has a command answered. What the controller asks for meanwhile is left unanswered.
    fn ask(&mut self, command: Command, payload: &[u8]) -> Vec<u8> {
        self.send(command.raw(), 0, 7, payload);
        loop {
            let (header, payload) = self.next();
            if header.is_reply() {
                assert_eq!((header.command, header.errno()), (command.raw(), None));
                return payload;
            }
        }
    }

    fn access(region: u32, offset: u64, len: usize) -> Vec<u8> {
        [&offset.to_ne_bytes()[..], &region.to_ne_bytes(), &(len as u32).to_ne_bytes()].concat()
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) {
        self.ask(Command::RegionWrite, &[&Self::access(region, offset, data.len()), data].concat());
    }

    fn status(&mut self) -> u32 {
        let reply = self.ask(Command::RegionRead, &Self::access(0, CSTS, 4));
        u32::from_le_bytes(reply[16..].try_into().unwrap())
    }

    fn enable(&mut self) {
        self.write(0, AQA, &(31_u32 | 31 << 16).to_le_bytes());
        self.write(0, AQA + 4, &0x1000_u64.to_le_bytes());
        self.write(0, AQA + 12, &0x2000_u64.to_le_bytes());
        self.write(0, CC, &ENABLE.to_le_bytes());
        assert_eq!(self.status(), 1, "ready");
    }

    /// Rings for the first admin command. Returns what the controller asks for.
    fn ring(&mut self) -> (Header, Vec<u8>) {
        let bell = [&Self::access(0, 0x1000, 4)[..], &1_u32.to_le_bytes()].concat();
        self.send(Command::RegionWrite.raw(), 0x10, 3, &bell);
        let (asked, range) = self.next();
        assert_eq!(asked.command, Command::DmaRead.raw());
        assert_eq!(range, [0x1000_u64, 64].map(u64::to_ne_bytes).concat());
        (asked, range)
    }
}

#[test]
fn a_reset_does_not_wait_for_a_command_that_is_being_fetched() {
    let mut client = Plain::new();
    client.enable();
    let (asked, range) = client.ring();
    client.ask(Command::DeviceReset, &[]);
    assert_eq!(client.status(), 0);
    // The answer comes late, and the next client of the queue is served as the first.
    client.send(asked.command, 1, asked.id, &[&range[..], &[0; 64]].concat());
    client.write(CONFIG, 4, &[6, 0]);
    client.enable();
    client.ring();
}

/// A guest that does not wait until the controller says that it is not ready any more.
#[test]
fn enabling_again_does_not_wait_for_a_command_that_is_being_fetched() {
    let mut client = Plain::new();
    client.enable();
    client.ring();
    client.write(0, CC, &(ENABLE & !1).to_le_bytes());
    client.enable();
    client.ring();
}
