//! The command as people run it.

mod common;

use common::{eventually, stop};
use std::path::Path;
use std::process::Command;
use vfio_irq_user::{Client, ClientOptions};

fn command(words: &[&str]) -> Command {
    common::command(&[&["serve", "nvme"], words].concat())
}

/// Runs it to its end, be it that it failed or did not understand; what it said.
fn refused(words: &[&str]) -> String {
    let output = command(words).output().unwrap();
    assert!(!output.status.success(), "{words:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn several_sockets_are_served_until_a_signal_and_gone_then() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one.sock"), folder.path().join("other.sock"));
    for signal in ["-TERM", "-INT"] {
        let words = ["--socket", text(&one), "--socket", text(&other), "--size", "1M"];
        let child = command(&[&words[..], &["--queues", "7"]].concat()).spawn().unwrap();
        eventually("two sockets", || one.exists() && other.exists());
        // A client that is there when the signal comes does not keep the command.
        let clients = [&one, &other].map(|path| Client::connect(path, ClientOptions::default()));
        for client in &clients {
            assert_eq!(client.as_ref().unwrap().region(0).unwrap().size, 0x1_0000);
        }
        let output = stop(child, signal);
        assert!(output.status.success());
        assert!(!one.exists() && !other.exists());
        let said = String::from_utf8(output.stderr).unwrap();
        let table = [("a client has come", 2), ("this client: 0 reads", 2), ("stopping", 1)];
        for (words, times) in table.into_iter().chain([("in all: 0 reads", 2)]) {
            assert_eq!(said.matches(words).count(), times, "{words}: {said}");
        }
    }
}

#[test]
fn what_cannot_be_served_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name)).to_owned();
    let (socket, disk, odd) = (path("a.sock"), path("disk"), path("odd"));
    std::fs::write(&disk, vec![0; 4096]).unwrap();
    std::fs::write(&odd, vec![0; 1000]).unwrap();
    let directory = text(folder.path()).to_owned();
    let table: [(&[&str], &str); 9] = [
        (&["--socket", &socket], "--size <SIZE>|--file <DISK>"),
        (&["--size", "1M"], "--socket <PATH>"),
        (&["--socket", &socket, "--size", "lots"], "a number with K, M, G or T"),
        (&["--socket", &socket, "--size", "100"], "a multiple of 512"),
        (&["--socket", &socket, "--size", "1M", "--queues", "2000"], "1..=1024"),
        (&["--socket", &socket, "--file", &odd], "a multiple of 512"),
        (&["--socket", &socket, "--file", &path("none")], "cannot open"),
        (&["--socket", &socket, "--file", &directory], "cannot open"),
        (
            &["--socket", &socket, "--socket", &path("b.sock"), "--file", &disk],
            "say --file once for each --socket",
        ),
    ];
    for (words, what) in table {
        let said = refused(words);
        assert!(said.contains(what), "{words:?}: {said}");
        assert!(!Path::new(&socket).exists());
    }
    assert!(refused(&["--socket", &socket, "--socket", &socket, "--size", "1M"]).contains("twice"));
    // A socket on which somebody answers, and a disk that somebody serves.
    let child = command(&["--socket", &socket, "--file", &disk]).spawn().unwrap();
    eventually("a socket", || Path::new(&socket).exists());
    assert!(refused(&["--socket", &socket, "--size", "1M"]).contains("in use by another server"));
    assert!(refused(&["--socket", &path("c.sock"), "--file", &disk]).contains("in use by another"));
    assert!(stop(child, "-TERM").status.success());
}
