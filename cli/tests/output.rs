//! Tests of commands whose output cannot be written.

mod common;

use common::{command, eventually, stop, text};
use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use vfio_irq_user::{Client, ClientOptions};

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// Returns a pipe without a reader.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Connects clients one after the other; the server must serve each, and then end normally.
fn serves(mut child: Child, socket: &Path) {
    let counts = socket.with_extension("counts");
    eventually("a server", || UnixStream::connect(&counts).is_ok());
    for _ in 0..3 {
        let client = Client::connect(socket, ClientOptions::default()).unwrap();
        assert_eq!(client.region(0).unwrap().size, 0x1_0000);
        drop(client);
        let mut said = String::new();
        UnixStream::connect(&counts).unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("NVMe controller"), "{said}");
    }
    assert_eq!(child.try_wait().unwrap(), None);
    let output = stop(child, "-TERM");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!socket.exists());
}

#[test]
fn a_server_whose_output_cannot_be_written_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("disk");
    let words = ["serve", "nvme", "--socket", text(&socket), "--size", "1M", "--queues", "3"];
    for json in [&[][..], &["--json"]] {
        let serve = || {
            let mut command = command(&[&words[..], json].concat());
            command.env("RUST_LOG", "trace");
            command
        };
        serves(serve().stdout(full()).stderr(full()).spawn().unwrap(), &socket);
        serves(serve().stdout(closed()).stderr(closed()).spawn().unwrap(), &socket);
        // The reader does not read, so the pipe is soon full.
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
        let other = writer.try_clone().unwrap();
        serves(serve().stdout(writer).stderr(other).spawn().unwrap(), &socket);
        drop(reader);
    }
}

const TASKS: [&[&str]; 14] = [
    &["--help"],
    &["--version"],
    &["help", "serve"],
    &["list", "--all"],
    &["list", "--json"],
    &["info", "sim"],
    &["watch", "sim", "--once"],
    &["watch", "sim", "--json", "--count", "3", "--interval", "0.01"],
    &["metrics"],
    &["bench", "sim", "--rounds", "1"],
    &["conform", "sim", "--only", "v01"],
    &["completions", "bash"],
    &["man", "vfio-irq"],
    &["demo", "--queues", "1", "--interval", "1", "--method", "dynamic", "--picture", "/dev/null"],
];

#[test]
fn a_full_disk_is_a_failure_with_a_reason() {
    let tree = common::Tree::new();
    for task in TASKS {
        let words = tree.words(task);
        let output = command(&words).stdout(full()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{task:?}: {error}");
        let expected = "cannot write to standard output: No space left on device";
        assert!(error.contains(expected) && error.lines().count() == 1, "{task:?}: {error}");
        if task.contains(&"--json") {
            let error: serde_json::Value = serde_json::from_str(&error).unwrap();
            assert!(error["remedy"].as_str().unwrap().contains("make room"), "{error}");
        }
        // If no message can be written, the exit status reports the failure.
        let status = command(&words).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(1), "{task:?}");
        // A reader that has gone has read enough.
        let status = command(&words).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{task:?}");
    }
}

#[test]
fn a_failure_that_cannot_be_told_has_its_exit_status() {
    let tasks: [(&[&str], i32); 4] = [
        (&["lost"], 2),
        (&["lost", "--json"], 2),
        (&["info", "vfio-user:/nonexistent"], 1),
        (&["info", "vfio-user:/nonexistent", "--json"], 1),
    ];
    for (task, status) in tasks {
        for stream in [Stdio::from(full()), closed()] {
            let ended = command(task).stderr(stream).status().unwrap();
            assert_eq!(ended.code(), Some(status), "{task:?}");
        }
    }
    // The log's filter may be invalid, too.
    for value in ["a=b=c", "vfio_irq=loud"] {
        let nonsense = || {
            let mut command = command(&["info", "sim"]);
            command.env("RUST_LOG", value);
            command
        };
        let output = nonsense().output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains("RUST_LOG makes no sense") && error.contains("RUST_LOG=debug"),
            "{error}"
        );
        assert_eq!(nonsense().stderr(full()).status().unwrap().code(), Some(2));
    }
}
