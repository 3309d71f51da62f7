//! Clients come, wait, leave and are sent away; servers stop; sockets are left behind.

mod common;

use common::{RAISE, words};
use common::{Raw, Setup, event};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vfio_irq_user::abi::{Index, flags};
use vfio_irq_user::wire::Command;
use vfio_irq_user::{Client, ClientError, ClientOptions, ConnectionError, Errno, Options};

/// Sends VERSION.
fn hello(raw: &mut Raw, id: u16) {
    raw.send(id, Command::Version.raw(), 0, &[0, 0, 1, 0], &[]);
}

/// The answer to VERSION is EBUSY, and the last thing that is said.
fn refused(mut raw: Raw, id: u16) {
    let (header, payload) = raw.reply().expect("an answer to VERSION");
    assert_eq!((header.id, header.command), (id, Command::Version.raw()));
    assert_eq!((header.errno(), payload.len()), (Some(Errno::EBUSY), 0));
    assert!(raw.is_closed());
}

#[test]
fn a_second_client_waits_for_the_first_and_a_third_is_refused() {
    let long = Duration::from_secs(600);
    let setup = Setup::with(Options { succession: long, handshake: long, ..common::options() });
    let first = setup.client();
    let mut second = setup.raw();
    hello(&mut second, 1);
    // One that says it at once, and one that takes its time.
    let mut third = setup.raw();
    hello(&mut third, 7);
    refused(third, 7);
    let mut late = setup.raw();
    late.send_bytes(&[9, 0, 1], &[]);
    let mut other = setup.raw();
    hello(&mut other, 8);
    refused(other, 8);
    late.send_bytes(&[0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[]);
    late.send_bytes(&[0], &[]);
    refused(late, 9);
    drop(first);
    let (header, _) = second.reply().expect("the second has its turn");
    assert_eq!((header.id, header.errno()), (1, None));
}

#[test]
fn a_second_client_is_refused_when_it_has_waited_long_enough() {
    let setup = Setup::new();
    let first = setup.client();
    let mut second = setup.raw();
    hello(&mut second, 3);
    refused(second, 3);
    let late = Client::connect(&setup.path, ClientOptions::default());
    assert!(matches!(late, Err(ClientError::Broken(ConnectionError::Busy))));
    first.device_info().unwrap();
}

/// What is refused takes no descriptors for ever.
#[test]
fn a_client_that_is_refused_and_says_nothing_is_closed() {
    let long = Duration::from_secs(600);
    let setup = Setup::with(Options { succession: long, ..common::options() });
    let (_first, _second) = (setup.client(), setup.raw());
    let mut third = setup.raw();
    assert!(third.is_closed());
    let mut nonsense = setup.raw();
    nonsense.send_bytes(&[0xff; 64], &[]);
    assert!(nonsense.is_closed());
}

#[test]
fn a_flood_of_connections_is_survived() {
    let setup = Setup::new();
    let client = setup.client();
    let mut kept = Vec::new();
    for _ in 0..2000 {
        if let Ok(stream) = UnixStream::connect(&setup.path) {
            kept.push(stream);
        }
        if kept.len() > 200 {
            kept.clear();
        }
    }
    client.device_info().unwrap();
    drop((client, kept));
    common::eventually("a next client", || {
        Client::connect(&setup.path, ClientOptions::default()).is_ok()
    });
}

#[test]
fn a_server_stops_whatever_its_clients_do() {
    let setup = Setup::with(Options { stall: Duration::from_secs(60), ..common::options() });
    let quiet = setup.client();
    let other = setup.add("other.sock");
    let mut incomplete = Raw(UnixStream::connect(&other).unwrap());
    incomplete.send_bytes(&[1, 2, 3], &[]);
    let waiting = setup.raw();
    std::thread::sleep(Duration::from_millis(20));
    let since = Instant::now();
    setup.server.stopper().stop();
    let Setup { server, path, folder, .. } = setup;
    server.wait();
    assert!(since.elapsed() < Duration::from_secs(1));
    assert!(matches!(quiet.device_info(), Err(ClientError::Broken(_))));
    assert!(!path.exists() && !other.exists());
    drop((waiting, folder));
}

#[test]
fn sockets_without_a_server_are_replaced() {
    let setup = Setup::new();
    let path = setup.folder.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    setup.add("left.sock");
    Client::connect(&path, ClientOptions::default()).unwrap();
    let used = setup.try_add("left.sock").unwrap_err();
    assert!(matches!(used, vfio_irq_user::ServerError::InUse { .. }), "{used}");
    std::fs::write(setup.folder.path().join("file"), "kept").unwrap();
    assert!(setup.try_add("file").is_err());
    assert!(setup.folder.path().join("file").exists());
    let nowhere = setup.try_add("no/such/folder").unwrap_err();
    assert!(matches!(nowhere, vfio_irq_user::ServerError::Listen { .. }), "{nowhere}");
}

/// An eventfd that had room when it was attached and did not block, and now is full and blocks.
fn blocks(fd: &std::os::fd::OwnedFd) {
    rustix::fs::fcntl_setfl(fd, rustix::fs::OFlags::empty()).unwrap();
    rustix::io::write(fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
}

/// Ways to have the thread that serves a client wait in a write to the client's eventfd.
fn stuck(setup: &Setup) -> Vec<(&'static str, Raw)> {
    let (eventfd, none) = (flags::DATA_EVENTFD, flags::DATA_NONE);
    let attach = |name: &str, index: Index| {
        let mut raw = Raw::agreed(&setup.add(name));
        let fd = event();
        let set = words(&[20, eventfd | flags::ACTION_TRIGGER, index as u32, 0, 1]);
        assert_eq!(raw.ask(Command::DeviceSetIrqs, &set, &[fd.as_fd()]), None);
        blocks(&fd);
        raw
    };
    let mut stuck = Vec::new();
    for (name, index) in
        [("x", Index::Intx), ("msi", Index::Msi), ("e", Index::Err), ("r", Index::Req)]
    {
        let mut raw = attach(name, index);
        let set = words(&[20, none | flags::ACTION_TRIGGER, index as u32, 0, 1]);
        raw.send(2, Command::DeviceSetIrqs.raw(), 0, &set, &[]);
        stuck.push((name, raw));
    }
    let mut raw = attach("device", Index::Msix);
    let mut write = RAISE.to_ne_bytes().to_vec();
    write.extend(words(&[0, 4, 0]));
    raw.send(2, Command::RegionWrite.raw(), 0, &write, &[]);
    stuck.push(("device", raw));
    stuck
}

#[test]
fn a_server_stops_although_clients_let_it_wait_for_their_eventfds() {
    let setup = Setup::new();
    let stuck = stuck(&setup);
    std::thread::sleep(Duration::from_millis(50));
    let stopper = setup.server.stopper();
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        stopper.stop();
        setup.server.wait();
        done.send(())
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("the server stops");
    drop(stuck);
}

#[test]
fn a_device_whose_client_is_gone_and_left_it_waiting_for_an_eventfd_is_free_for_the_next() {
    let setup = Setup::new();
    for (name, raw) in stuck(&setup) {
        std::thread::sleep(Duration::from_millis(20));
        drop(raw);
        let path = setup.folder.path().join(name);
        common::eventually(name, || Client::connect(&path, ClientOptions::default()).is_ok());
    }
}

#[test]
fn patience_may_be_without_end() {
    let (stall, handshake) = (Duration::MAX, Duration::MAX);
    let setup = Setup::with(Options { stall, handshake, ..Options::default() });
    for patience in [Duration::MAX, Duration::from_secs(u64::from(u32::MAX))] {
        let options = ClientOptions { patience, spin: Duration::ZERO };
        let client = Client::connect(&setup.path, options).unwrap();
        client.device_info().unwrap();
        drop(client);
    }
}

/// A device may have transfers in flight when its client disconnects.
#[test]
fn the_memory_outlives_disconnected() {
    let setup = Setup::new();
    let client = setup.client();
    client.dma_map(0, 0x1000, None).unwrap();
    drop(client);
    common::eventually("the end", || setup.diary.lock().unwrap().gone == 1);
    assert_eq!(setup.diary.lock().unwrap().mapped_at_end, Some(true));
}
