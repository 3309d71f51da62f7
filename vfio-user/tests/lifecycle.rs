//! Clients come, wait, leave and are sent away; servers stop; sockets are left behind.

mod common;

use common::{Bench, Raw};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vfio_irq_user::wire::Command;
use vfio_irq_user::{Client, ClientError, ClientOptions, Options};

#[test]
fn a_second_client_waits_for_the_first_and_a_third_is_sent_away() {
    let bench = Bench::new();
    let first = bench.client();
    let mut second = bench.raw();
    second.send(1, Command::Version.raw(), 0, &[0, 0, 1, 0], &[]);
    std::thread::sleep(Duration::from_millis(50));
    let mut third = bench.raw();
    assert!(third.is_closed());
    drop(first);
    assert!(second.reply().is_some(), "the second has its turn");

    let since = Instant::now();
    let late = Client::connect(&bench.path, ClientOptions::default());
    assert!(matches!(late, Err(ClientError::Broken(_))), "the second stays");
    assert!(since.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_flood_of_connections_is_survived() {
    let bench = Bench::new();
    let client = bench.client();
    let mut kept = Vec::new();
    for _ in 0..2000 {
        if let Ok(stream) = UnixStream::connect(&bench.path) {
            kept.push(stream);
        }
        if kept.len() > 200 {
            kept.clear();
        }
    }
    client.device_info().unwrap();
    drop((client, kept));
    common::eventually("a next client", || {
        Client::connect(&bench.path, ClientOptions::default()).is_ok()
    });
}

#[test]
fn a_server_stops_whatever_its_clients_do() {
    let bench = Bench::with(Options { stall: Duration::from_secs(60), ..common::options() });
    let quiet = bench.client();
    let other = bench.add("other.sock");
    let mut amid = Raw(UnixStream::connect(&other).unwrap());
    amid.send_bytes(&[1, 2, 3], &[]);
    let waiting = bench.raw();
    std::thread::sleep(Duration::from_millis(20));
    let since = Instant::now();
    bench.server.stopper().stop();
    let Bench { server, path, folder, .. } = bench;
    server.wait();
    assert!(since.elapsed() < Duration::from_secs(1));
    assert!(matches!(quiet.device_info(), Err(ClientError::Broken(_))));
    assert!(!path.exists() && !other.exists());
    drop((waiting, folder));
}

#[test]
fn sockets_that_nobody_answers_on_are_replaced() {
    let bench = Bench::new();
    let path = bench.folder.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    bench.add("left.sock");
    Client::connect(&path, ClientOptions::default()).unwrap();
    let used = bench.try_add("left.sock").unwrap_err();
    assert!(matches!(used, vfio_irq_user::ServerError::InUse { .. }), "{used}");
    std::fs::write(bench.folder.path().join("file"), "kept").unwrap();
    assert!(bench.try_add("file").is_err());
    assert!(bench.folder.path().join("file").exists());
    let nowhere = bench.try_add("no/such/folder").unwrap_err();
    assert!(matches!(nowhere, vfio_irq_user::ServerError::Listen { .. }), "{nowhere}");
}
