//! Times that a client cannot stretch. Each test waits far longer than the limit for its end, and far
//! shorter than what would have to pass without the limit.

mod common;

use common::{Raw, Setup, event, words};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use vfio_irq_user::Options;
use vfio_irq_user::abi::{Index, flags};
use vfio_irq_user::wire::{Command, Header};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(600);

/// Does something every 20 ms until the server closes the connection.
fn until_closed(raw: &mut Raw, mut act: impl FnMut(&mut Raw)) {
    raw.0.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !matches!(std::io::Read::read(&mut raw.0, &mut [0; 64]), Ok(0)) {
        assert!(Instant::now() < deadline, "the connection goes on");
        act(raw);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A message that is far from complete after its header.
fn begin(raw: &mut Raw, command: Command) {
    let header = Header { id: 1, command: command.raw(), size: 4096, flags: 0, error: 0 };
    raw.send_bytes(&header.to_bytes(), &[]);
}

#[test]
fn a_handshake_ends_however_its_bytes_trickle_in() {
    for bytes in [0, 1] {
        let options = Options { handshake: SHORT, stall: LONG, ..Options::default() };
        let setup = Setup::with(options);
        let mut raw = setup.raw();
        if bytes > 0 {
            begin(&mut raw, Command::Version);
        }
        until_closed(&mut raw, |raw| raw.send_bytes(&vec![b' '; bytes], &[]));
        // The device is free.
        setup.client().device_info().unwrap();
    }
}

#[test]
fn a_message_ends_however_its_bytes_trickle_in() {
    for bytes in [0, 1] {
        let setup = Setup::with(Options { stall: SHORT, ..Options::default() });
        let mut raw = setup.agreed();
        begin(&mut raw, Command::RegionWrite);
        until_closed(&mut raw, |raw| raw.send_bytes(&vec![0; bytes], &[]));
    }
}

/// An eventfd that unmasks the line makes the server leave its wait for the rest of the message.
#[test]
fn a_message_ends_however_often_the_server_is_woken() {
    let setup = Setup::with(Options { stall: SHORT, ..Options::default() });
    let mut raw = setup.agreed();
    let (line, unmask) = (event(), event());
    for (action, fd) in [(flags::ACTION_TRIGGER, &line), (flags::ACTION_UNMASK, &unmask)] {
        let set = words(&[20, flags::DATA_EVENTFD | action, Index::Intx.raw(), 0, 1]);
        assert_eq!(raw.ask(Command::DeviceSetIrqs, &set, &[fd.as_fd()]), None);
    }
    begin(&mut raw, Command::RegionWrite);
    until_closed(&mut raw, |_| _ = rustix::io::write(&unmask, &1_u64.to_ne_bytes()));
}

/// A thread of the device's that waits for the client reads for the session as well.
#[test]
fn a_message_ends_whichever_thread_reads_it() {
    let setup = Setup::with(Options { stall: Duration::from_secs(2), ..Options::default() });
    let mut raw = setup.agreed();
    assert_eq!(raw.ask(Command::DmaMap, &common::map(0, 4096), &[]), None);
    let memory = setup.bus().memory;
    let device = std::thread::spawn(move || memory.read(0, &mut [0; 8]));
    assert_eq!(raw.reply().unwrap().0.command, Command::DmaRead.raw());
    begin(&mut raw, Command::RegionWrite);
    until_closed(&mut raw, |raw| raw.send_bytes(&[0], &[]));
    assert!(device.join().unwrap().is_err());
}
