//! Agreeing on a version: what is legal however odd, and what is not.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // All small.

mod common;

use common::Setup;
use vfio_irq_user::Errno;
use vfio_irq_user::errno;
use vfio_irq_user::wire::{Command, Request};

fn proposal(major: u16, minor: u16, text: &[u8]) -> Vec<u8> {
    [&major.to_ne_bytes()[..], &minor.to_ne_bytes(), text].concat()
}

/// Minor version, descriptors a message and many writes in one, as the server answers.
fn answered(payload: &[u8]) -> (u16, Option<u64>, Option<bool>) {
    assert_eq!(payload.last(), Some(&0), "the text ends with a NUL");
    let version = Request::version(payload).unwrap();
    assert_eq!(version.major, 0);
    let theirs = version.capabilities().unwrap();
    (version.minor, theirs.max_msg_fds, theirs.write_multiple)
}

#[test]
fn whatever_is_legal_is_answered() {
    let qemu = br#"{"capabilities": {"max_msg_fds": 16, "max_data_xfer_size": 1048576, "max_dma_maps": 65535, "pgsizes": 4096, "write_multiple": true, "migration": {"pgsize": 4096}}}"#;
    let many = br#"{"capabilities":{"max_msg_fds":1000,"write_multiple":false}}"#;
    let ends = |text: &[u8]| [text, &[0]].concat();
    for (what, minor, text, expected) in [
        ("no text", 1, vec![], (1, None, None)),
        ("an empty text", 1, vec![0], (1, None, None)),
        ("nothing but ends", 1, vec![0; 9], (1, None, None)),
        ("an older version", 0, vec![], (0, None, None)),
        ("a newer version", 9, vec![], (1, None, None)),
        ("an empty object", 1, ends(b"{}"), (1, None, None)),
        ("a text without its end", 1, b"{}".to_vec(), (1, None, None)),
        ("no capabilities", 1, ends(br#"{"capabilities":{}}"#), (1, None, None)),
        (
            "unknown names",
            1,
            ends(br#"{"x":[1],"capabilities":{"y":{"z":null}}}"#),
            (1, None, None),
        ),
        ("QEMU's", 0, ends(qemu), (0, Some(16), Some(true))),
        ("many descriptors", 1, ends(many), (1, Some(253), Some(false))),
        ("something after the end", 1, [&ends(b"{}")[..], b"garbage"].concat(), (1, None, None)),
    ] {
        let setup = Setup::new();
        let mut raw = setup.raw();
        raw.send(5, Command::Version.raw(), 0, &proposal(0, minor, &text), &[]);
        let (header, payload) = raw.reply().expect(what);
        assert_eq!((header.id, header.errno()), (5, None), "{what}");
        assert_eq!(answered(&payload), expected, "{what}");
        assert_eq!(raw.ask(Command::DeviceGetInfo, &common::info(), &[]), None, "{what}");
    }
}

#[test]
fn whatever_is_not_is_refused_and_ends_the_connection() {
    let text = |text: &str| proposal(0, 1, text.as_bytes());
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(20 << 10));
    let deep = "[".repeat(10_000);
    for (what, payload, expected) in [
        ("nothing", vec![], Errno::EINVAL),
        ("half a version", vec![0, 0, 1], Errno::EINVAL),
        ("another major version", proposal(1, 0, &[]), errno::EOPNOTSUPP),
        ("no JSON", text("capabilities"), Errno::EINVAL),
        ("half an object", text("{\"capabilities\":{"), Errno::EINVAL),
        ("a list", text("[1]"), Errno::EINVAL),
        ("a number for an object", text("{\"capabilities\":7}"), Errno::EINVAL),
        ("a text for a number", text("{\"capabilities\":{\"max_msg_fds\":\"8\"}}"), Errno::EINVAL),
        ("a negative number", text("{\"capabilities\":{\"max_msg_fds\":-8}}"), Errno::EINVAL),
        ("a fraction", text("{\"capabilities\":{\"max_data_xfer_size\":1.5}}"), Errno::EINVAL),
        ("a number beyond all", text("{\"capabilities\":{\"pgsizes\":1e99}}"), Errno::EINVAL),
        ("not UTF-8", proposal(0, 1, &[b'"', 0xff, b'"']), Errno::EINVAL),
        ("a text without end", text(&long), Errno::EINVAL),
        ("no pages", text("{\"capabilities\":{\"pgsizes\":0}}"), Errno::EINVAL),
        ("pages of 2 KiB alone", text("{\"capabilities\":{\"pgsizes\":2048}}"), Errno::EINVAL),
        ("an abyss", text(&deep), Errno::EINVAL),
    ] {
        let setup = Setup::new();
        let mut raw = setup.raw();
        raw.send(5, Command::Version.raw(), 0, &payload, &[]);
        let (header, _) = raw.reply().expect(what);
        assert_eq!(header.errno(), Some(expected), "{what}");
        assert!(raw.is_closed(), "{what}");
        assert_eq!(setup.diary.lock().unwrap().clients, 0, "{what}");
    }
}

#[test]
fn nothing_comes_before_the_version() {
    let setup = Setup::new();
    let mut raw = setup.raw();
    assert_eq!(raw.ask(Command::DeviceReset, &[], &[]), Some(Errno::EINVAL));
    assert!(raw.is_closed());
    let mut raw = setup.raw();
    raw.send(1, Command::Version.raw(), 0x10, &[0, 0, 1, 0], &[]);
    assert!(raw.is_closed(), "a version that wants no reply");
    assert_eq!(setup.diary.lock().unwrap().resets, 0);
}

#[test]
fn a_client_that_receives_no_descriptors_gets_none() {
    let setup = Setup::new();
    let mut raw = setup.raw();
    let none = br#"{"capabilities":{"max_msg_fds":0}}"#;
    raw.send(5, Command::Version.raw(), 0, &proposal(0, 1, none), &[]);
    raw.reply().unwrap();
    let ask = common::words(&[32, 0, 2, 0, 0, 0, 0, 0]);
    raw.send(6, Command::DeviceGetRegionInfo.raw(), 0, &ask, &[]);
    let (_, payload) = raw.reply().unwrap();
    assert_eq!((payload.len(), payload[4]), (32, 3), "readable, writable, and no more");
    let ask = common::words(&[1000, 0, 0, 0]);
    raw.send(6, Command::DeviceGetRegionIoFds.raw(), 0, &ask, &[]);
    assert_eq!(raw.reply().unwrap().1, common::words(&[16, 0, 0, 0]));
}

/// The capabilities of a server's answer, as their names and values.
fn said(setup: &Setup, capabilities: &str) -> (common::Raw, serde_json::Value) {
    let mut raw = setup.raw();
    let text = format!("{{\"capabilities\":{capabilities}}}\0");
    raw.send(5, Command::Version.raw(), 0, &proposal(0, 1, text.as_bytes()), &[]);
    let (header, payload) = raw.reply().unwrap();
    assert_eq!(header.errno(), None, "{capabilities}");
    let text = &payload[4..payload.len() - 1];
    let mut said: serde_json::Value = serde_json::from_slice(text).unwrap();
    (raw, said["capabilities"].take())
}

#[test]
fn the_answer_names_what_was_proposed_and_nothing_else() {
    let setup = Setup::new();
    for (proposed, expected) in [
        ("{}", "{}"),
        (r#"{"max_msg_fds":8}"#, r#"{"max_msg_fds":16}"#),
        (r#"{"max_msg_fds":100}"#, r#"{"max_msg_fds":100}"#),
        (r#"{"max_data_xfer_size":4096}"#, r#"{"max_data_xfer_size":1048576}"#),
        (r#"{"max_dma_maps":65535}"#, r#"{"max_dma_maps":16384}"#),
        (r#"{"max_dma_maps":3}"#, r#"{"max_dma_maps":3}"#),
        (r#"{"pgsizes":4096}"#, r#"{"pgsizes":4096}"#),
        (r#"{"pgsizes":2166784}"#, r#"{"pgsizes":2166784}"#),
        (r#"{"pgsizes":6144}"#, r#"{"pgsizes":4096}"#),
        (r#"{"write_multiple":true}"#, r#"{"write_multiple":true}"#),
        (r#"{"write_multiple":false}"#, r#"{"write_multiple":false}"#),
        (r#"{"twin_socket":{"supported":true}}"#, "{}"),
        (r#"{"migration":{"pgsize":4096}}"#, "{}"),
    ] {
        let (_raw, said) = said(&setup, proposed);
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(said, expected, "{proposed}");
    }
}

#[test]
fn a_client_that_is_told_of_no_limit_goes_by_the_default() {
    let options = vfio_irq_user::Options { transfer: 4096, ..common::options() };
    let setup = Setup::with(options);
    let read = [common::longs(&[0]), common::words(&[0, 0x2000])].concat();
    let (mut raw, _) = said(&setup, "{}");
    assert_eq!(raw.ask(Command::RegionRead, &read, &[]), None);
    drop(raw);
    let (mut raw, _) = said(&setup, r#"{"max_data_xfer_size":1}"#);
    assert_eq!(raw.ask(Command::RegionRead, &read, &[]), Some(Errno::EINVAL));
}

#[test]
fn mappings_are_as_many_as_was_agreed_on() {
    let setup = Setup::new();
    let (mut raw, _) = said(&setup, r#"{"max_dma_maps":2}"#);
    let outcomes: Vec<_> =
        (0..3).map(|i| raw.ask(Command::DmaMap, &common::map(0x1000 * i, 0x1000), &[])).collect();
    assert_eq!(outcomes, [None, None, Some(Errno::ENOSPC)]);
}
