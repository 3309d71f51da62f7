//! No descriptor is ever left over. Alone in its process, so that it can count them all.

mod common;

use common::{Setup, borrowed, event, eventually, longs, memfd, open_fds, words};
use std::os::fd::AsFd;
use vfio_irq_user::abi::{Index, flags};
use vfio_irq_user::wire::{Command, Header};
use vfio_irq_user::{Bus, IrqData};

/// Everything that a client can do with descriptors, right and wrong.
fn play(setup: &Setup) {
    let fds: Vec<_> = (0..20).map(|_| event()).collect();
    let file = memfd(0x4000);
    let mut with_file = borrowed(&fds);
    with_file.push(file.as_fd());

    let client = setup.client();
    client.attach(Index::Intx, 0, &borrowed(&fds[..1])).unwrap();
    let resample = borrowed(&fds[1..2]);
    client.set_irqs(Index::Intx, flags::ACTION_UNMASK, 0, IrqData::Eventfds(&resample)).unwrap();
    // One is armed.
    client
        .set_irqs(Index::Intx, flags::ACTION_UNMASK, 0, IrqData::Eventfds(&resample))
        .unwrap_err();
    client.set_irqs(Index::Intx, TRIGGER, 0, IrqData::None(0)).unwrap();
    client.attach(Index::Msix, 0, &borrowed(&fds)).unwrap();
    client.attach(Index::Msix, 10, &borrowed(&fds)).unwrap();
    client.attach(Index::Msix, 20, &with_file).unwrap_err();
    client.attach(Index::Err, 0, &[fds[0].as_fd()]).unwrap();
    client
        .set_irqs(Index::Msix, flags::ACTION_UNMASK, 0, IrqData::Eventfds(&borrowed(&fds)))
        .unwrap_err();
    client.set_irqs(Index::Msix, flags::ACTION_MASK, 5, IrqData::Eventfds(&with_file)).unwrap_err();
    client.set_irqs(Index::Msix, TRIGGER, 3, IrqData::Detach(2)).unwrap();
    client.dma_map(0, 0x1000, Some((file.as_fd(), 0))).unwrap();
    client.dma_map(0, 0x1000, Some((file.as_fd(), 0))).unwrap_err();
    client.dma_map(0x8000, 0x8000, Some((file.as_fd(), 0))).unwrap_err();
    drop(client.region(2).unwrap());
    drop(client.region_io_fds(0).unwrap());
    client.call(Command::DeviceReset, &[], &with_file).unwrap_err();
    client.call(Command::RegionRead, &longs(&[0, 4 << 32]), &with_file).unwrap_err();
    drop(client);

    // Those that come in the middle of a message that never ends, or with what is none.
    let mut raw = setup.agreed();
    raw.send_bytes(
        &Header { id: 1, command: 8, size: 100, flags: 0, error: 0 }.to_bytes(),
        &with_file,
    );
    drop(raw);
    let mut raw = setup.agreed();
    raw.send_bytes(&[0xff; 100], &with_file);
    assert!(raw.is_closed());
    let mut raw = setup.raw();
    raw.send(1, Command::Version.raw(), 0, &[9, 9, 9, 9], &with_file);
    assert!(raw.is_closed());
    let mut raw = setup.agreed();
    // Many messages at once, all with descriptors, none of them read before the next.
    for _ in 0..20 {
        raw.send(1, Command::DeviceGetInfo.raw(), 0x10, &words(&[16, 0, 0, 0]), &with_file);
    }
    assert!(raw.ask(Command::DeviceGetInfo, &words(&[16, 0, 0, 0]), &[]).is_none());
}

const TRIGGER: u32 = flags::ACTION_TRIGGER;

#[test]
fn descriptors_are_always_closed() {
    let before_all = open_fds();
    let setup = Setup::new();
    let before = open_fds();
    for _ in 0..5 {
        play(&setup);
    }
    eventually("every descriptor closed", || open_fds() == before);
    let Bus { interrupts, memory } = setup.bus();
    drop(setup);
    eventually("every descriptor closed with the server", || open_fds() == before_all);
    assert!(!memory.covers(0, 1) && !interrupts.is_attached(0));

    a_process_out_of_descriptors();
}

/// With none left, descriptors that clients send are lost, and they are told; later all is well.
fn a_process_out_of_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let setup = Setup::new();
    let client = setup.client();
    let fds: Vec<_> = (0..32).map(|_| event()).collect();
    let before = getrlimit(Resource::Nofile);
    let highest = fds.iter().map(std::os::fd::AsRawFd::as_raw_fd).max().unwrap();
    let limit = Rlimit { current: Some(highest.unsigned_abs().into()), maximum: before.maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
    let refused = client.attach(Index::Msix, 0, &borrowed(&fds));
    let late = std::os::unix::net::UnixStream::connect(&setup.path);
    setrlimit(Resource::Nofile, before).unwrap();
    assert_eq!(refused.unwrap_err().errno(), Some(vfio_irq_user::errno::EMFILE));
    drop(late);
    client.attach(Index::Msix, 0, &borrowed(&fds)).unwrap();
    assert!(setup.bus().interrupts.is_attached(31));
}
