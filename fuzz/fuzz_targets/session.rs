//! A client that says anything: each message gets the reply that it is owed, nothing panics, and
//! every descriptor is closed in the end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use vfio_irq_user::pci::{Bar, Function, IoEventfd};
use vfio_irq_user::wire::{Area, Header, Packet, Reply, flags};
use vfio_irq_user::{Bus, Device, Endpoint, Errno, Flow, Grants, Session};

struct Board(Bus);

impl Device for Board {
    fn read(&mut self, bar: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        assert!(offset + data.len() as u64 <= 0x4000 && bar < 6);
        let _ = self.0.memory.read(offset, data);
        Ok(())
    }

    fn write(&mut self, bar: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        assert!(offset + data.len() as u64 <= 0x4000 && bar < 6);
        self.0.interrupts.raise(u32::from(data.first().copied().unwrap_or(0)));
        self.0.interrupts.set_intx(data.len() % 2 == 0);
        let _ = self.0.memory.write(offset, data);
        Ok(())
    }

    fn reset(&mut self) {}
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn file() -> OwnedFd {
    let fd = memfd_create("fuzz", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, 0x4000).unwrap();
    fd
}

fn function() -> Function {
    static SHARED: OnceLock<(Arc<OwnedFd>, Arc<OwnedFd>)> = OnceLock::new();
    let (shared, doorbell) = SHARED.get_or_init(|| (Arc::new(file()), Arc::new(event())));
    let doorbell =
        IoEventfd { offset: 8, size: 4, datamatch: Some(1), fd: Arc::clone(doorbell) };
    let areas = vec![Area { offset: 0, size: 0x1000 }];
    Function::builder(1, 2)
        .bar(0, Bar::memory64(0x4000).io_eventfd(doorbell))
        .bar(2, Bar::memory32(0x4000).shared(Arc::clone(shared), 0, areas))
        .pin(1)
        .msi(8, true)
        .msix(70, 0, 0x2000, 0x3000)
        .power_management()
        .pcie()
        .build()
        .unwrap()
}

/// Takes bytes off the front; zeros when there are no more.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }
}

fuzz_target!(|bytes: &[u8]| {
    let function = function();
    let before = next_fd();
    let mut endpoint = Endpoint::new(function, Board);
    for client in bytes.split(|byte| *byte == 0xa5) {
        converse(&mut endpoint, Input(client));
        assert_eq!(next_fd(), before, "a descriptor is left over");
    }
});

/// The lowest descriptor that is free: a leak moves it.
fn next_fd() -> i32 {
    event().as_raw_fd()
}

fn converse(endpoint: &mut Endpoint, mut input: Input<'_>) {
    let grants = Grants { transfer: 1 << 16, dma_maps: 8 };
    let mut session = Session::new(endpoint, grants);
    let (mut fds, mut reply) = (Vec::new(), Reply::default());
    // Most of what there is to see is behind the version.
    if input.byte() % 8 != 0 {
        let version = Header { id: 0, command: 1, size: 20, flags: 0, error: 0 }.to_bytes();
        let message = [&version[..], &[0, 0, 1, 0]].concat();
        let packet = Packet::split(&message).unwrap().unwrap();
        assert_eq!(session.handle(packet, &mut fds, false, &mut reply), Flow::On);
    }
    while !input.0.is_empty() {
        let (command, kind) = (u16::from(input.byte()) % 20, input.byte());
        let flags = [0, 0, 0, flags::NO_REPLY, u32::from(kind)][usize::from(kind % 5)];
        let len = usize::from(input.byte()) % 72;
        let payload = input.bytes(len);
        let size = (payload.len() + Header::LEN) as u32;
        let header = Header { id: 7, command, size, flags, error: 0 };
        let message = [&header.to_bytes()[..], payload].concat();
        let packet = Packet::split(&message).unwrap().unwrap();
        for n in 0..kind >> 6 {
            fds.push(if kind & 32 != 0 && n == 0 { file() } else { event() });
        }
        let flow = session.handle(packet, &mut fds, kind == 77, &mut reply);
        assert!(fds.is_empty());
        answered(&header, &reply);
        session.serve_resample();
        if flow == Flow::End {
            return;
        }
    }
}

/// A reply if one is wanted, and none otherwise.
fn answered(command: &Header, reply: &Reply) {
    if !command.wants_reply() {
        return assert!(reply.bytes().is_empty());
    }
    let packet = Packet::split(reply.bytes()).unwrap().expect("a reply");
    let header = packet.header();
    assert_eq!(packet.len(), reply.bytes().len());
    assert_eq!((header.id, header.command), (command.id, command.command));
    assert!(header.is_reply());
    if header.errno().is_some() {
        assert!(packet.payload().is_empty() && reply.fds().len() == 0);
    }
}
