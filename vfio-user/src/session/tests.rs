//! The cost of a request for threads that raise.

use super::{Flow, Grants, Session};
use crate::device::{Bus, Device, Endpoint};
use crate::irq::FENCED;
use crate::pci::{Bar, Function};
use crate::wire::{Command, Header, Packet, Reply};
use std::os::fd::OwnedFd;
use vfio_irq_engine::Errno;
use vfio_irq_engine::abi::flags;

struct Nothing;

impl Device for Nothing {
    fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn reset(&mut self) {}
}

/// Handles a command that has to succeed; how often it had others fenced.
fn fences(session: &mut Session<'_>, command: Command, words: &[u32], fds: usize) -> u32 {
    let payload: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut bytes = Header::command(1, command, payload.len()).to_bytes().to_vec();
    bytes.extend(payload);
    let mut fds: Vec<OwnedFd> = (0..fds).map(|_| crate::transport::waker().unwrap()).collect();
    let (mut reply, before) = (Reply::default(), FENCED.get());
    let packet = Packet::split(&bytes).unwrap().unwrap();
    assert_eq!(session.handle(packet, &mut fds, false, &mut reply), Flow::On);
    let answer = Packet::split(reply.bytes()).unwrap().unwrap();
    assert_eq!(answer.header().errno(), None, "{command:?}");
    FENCED.get() - before
}

/// Each fence interrupts every processor that runs a thread of this process.
#[test]
fn a_request_fences_once_however_many_vectors_it_names() {
    let function = Function::builder(1, 2).bar(0, Bar::memory32(0x4000)).msix(64, 0, 0, 0x2000);
    let mut endpoint = Endpoint::new(function.build().unwrap(), |_: Bus| Nothing);
    let mut session = Session::new(&mut endpoint, Grants { transfer: 4096, dma_maps: 1 });
    fences(&mut session, Command::Version, &[1 << 16], 0);
    let mut set_irqs = |flags, count, fds| {
        fences(&mut session, Command::DeviceSetIrqs, &[20, flags, 2, 0, count], fds)
    };
    let attach = flags::DATA_EVENTFD | flags::ACTION_TRIGGER;
    assert_eq!(set_irqs(attach, 64, 64), 0, "nobody can have seen another eventfd");
    assert_eq!(set_irqs(attach, 64, 64), 1, "all replaced");
    assert_eq!(set_irqs(flags::DATA_NONE | flags::ACTION_MASK, 64, 0), 1);
    assert_eq!(set_irqs(flags::DATA_NONE | flags::ACTION_UNMASK, 64, 0), 0);
    assert_eq!(set_irqs(attach, 64, 0), 1, "all detached");
    assert_eq!(set_irqs(attach, 64, 64), 0);
    assert_eq!(set_irqs(flags::DATA_NONE | flags::ACTION_TRIGGER, 0, 0), 1, "all at once");
}
