//! Tests of `watch` and `bench` on working devices.

mod common;

use common::{command, eventually, json, refused, said, stop, text};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use vfio_irq::{Index, Trigger, Vectors};
use vfio_irq_user::{Client, ClientOptions};

struct Served {
    child: Option<Child>,
    folder: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        let mut served = Self { child: None, folder: tempfile::tempdir().unwrap() };
        served.again();
        served
    }

    fn again(&mut self) {
        let socket = self.socket();
        let words = ["serve", "nvme", "--socket", text(&socket), "--size", "1M", "--queues", "7"];
        self.child = Some(command(&words).spawn().unwrap());
        eventually("a server", || UnixStream::connect(self.counts()).is_ok());
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn counts(&self) -> PathBuf {
        self.folder.path().join("disk.counts")
    }

    fn target(&self) -> String {
        format!("vfio-user:{}", text(&self.socket()))
    }

    fn end(&mut self, signal: &str) {
        stop(self.child.take().unwrap(), signal);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            stop(child, "-KILL");
        }
    }
}

#[test]
fn a_device_that_is_made_up_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["watch", "sim", "--json", "--interval", "0.05"];
    let mut watch = command(&words).env("TMPDIR", folder.path()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(watch.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"device\":\"sim\""), "{line}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    stop(watch, "-KILL");
}

/// The client masks, re-targets and signals during a watch; all of it is counted.
#[test]
fn a_served_device_tells_its_own_counts() {
    let mut served = Served::start();
    let words = ["watch", &served.target(), "--json", "--interval", "0.05"];
    let mut watch = command(&words).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = move || -> serde_json::Value {
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    };
    assert_eq!(next()["vectors"], serde_json::json!([]));
    let client = Client::connect(served.socket(), ClientOptions::default()).unwrap();
    let vectors = Vectors::open(client, Index::Msix).unwrap();
    let trigger = Trigger::new().unwrap();
    let held = vectors.enable_many((0..4).map(|number| (number, &trigger))).unwrap();
    for vector in &held {
        vector.retarget(Trigger::new().unwrap()).unwrap();
        (0..vector.number()).for_each(|_| vector.loopback().unwrap());
    }
    (0..3).for_each(|_| vectors.mask(1, 2).and_then(|()| vectors.unmask(1, 2)).unwrap());
    vectors.mask(2, 1).unwrap();
    let expected = |number: u64| -> (u64, String, u64, u64, u64) {
        let masks = [0, 3, 4, 0][usize::try_from(number).unwrap()];
        (number, if number == 2 { "masked" } else { "unmasked" }.to_owned(), masks, 1, number)
    };
    eventually("all counts", || {
        let snapshot = next();
        let rows = snapshot["vectors"].as_array().unwrap();
        let number = |row: &serde_json::Value, name: &str| row[name].as_u64().unwrap();
        let seen = rows.iter().map(|row| {
            let state = row["state"].as_str().unwrap().to_owned();
            let counts =
                ["vector", "masks", "retargets", "loopbacks"].map(|name| number(row, name));
            (counts[0], state, counts[1], counts[2], counts[3])
        });
        Vec::from_iter(seen) == Vec::from_iter((0..4).map(expected))
    });
    // The device keeps the counts after its client has left, and removes the sockets at its end.
    drop((held, vectors));
    eventually("an end", || json_rows(&served).iter().all(|row| row["state"] == "empty"));
    assert_eq!(json_rows(&served)[3]["loopbacks"], 3);
    served.end("-TERM");
    assert!(!served.counts().exists() && !served.socket().exists());
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("the server has ended: no counts at"), "{error}");
}

fn json_rows(served: &Served) -> Vec<serde_json::Value> {
    json(&["watch", &served.target(), "--once"])["vectors"].as_array().unwrap().clone()
}

#[test]
fn counts_are_told_in_spite_of_peers_that_do_not_read_and_files_that_are_left_over() {
    let mut served = Served::start();
    let idle: Vec<UnixStream> =
        (0..20).map(|_| UnixStream::connect(served.counts()).unwrap()).collect();
    assert_eq!(json_rows(&served).len(), 0);
    drop(idle);
    // A killed server leaves both sockets; the next server replaces them.
    served.end("-KILL");
    assert!(served.counts().exists());
    served.again();
    assert_eq!(json_rows(&served).len(), 0);
    // A file that is no socket is not removed.
    served.end("-TERM");
    std::fs::write(served.counts(), "precious").unwrap();
    let socket = served.socket();
    let words = ["serve", "nvme", "--socket", text(&socket), "--size", "1M"];
    let output = command(&words).output().unwrap();
    let refusal = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(refusal.contains("disk.counts exists and is no socket"), "{refusal}");
    assert_eq!(std::fs::read_to_string(served.counts()).unwrap(), "precious");
}

#[test]
fn a_made_up_device_is_watched() {
    let output = command(&["watch", "sim", "--json", "--count", "3", "--interval", "0.3"]).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let total = |line: usize| lines[line]["total"].as_u64().unwrap();
    assert!(lines.len() == 3 && total(0) < total(1) && total(1) < total(2), "{text}");
    assert_eq!(lines[2]["vectors"].as_array().unwrap().len(), 8);
    assert!(lines[2]["vectors"][0]["rate"].as_f64().unwrap() > 0.0);
    assert!(said(&["watch", "sim", "--once"]).contains("VECTOR"));
}

const REQUESTS: [&str; 13] = [
    "GET_IRQ_INFO",
    "first enable",
    "add one",
    "detach",
    "attach again",
    "re-target",
    "same eventfd again",
    "mask",
    "unmask",
    "loopback",
    "disable",
    "enable # at once",
    "disable #",
];

fn check(document: &serde_json::Value, rounds: u64, many: u32) {
    let costs = document["costs"].as_array().unwrap();
    let names: Vec<&str> = costs.iter().map(|cost| cost["request"].as_str().unwrap()).collect();
    assert_eq!(names, REQUESTS.map(|name| name.replace('#', &many.to_string())));
    for cost in costs {
        let number = |name: &str| cost[name].as_f64().unwrap();
        assert!(0.0 < number("min_us") && number("min_us") <= number("median_us"), "{cost}");
        assert!(number("median_us") <= number("p99_us") && cost["samples"] == rounds, "{cost}");
    }
}

#[test]
fn requests_are_measured_on_a_made_up_device_and_on_a_served_one() {
    check(&json(&["bench", "sim", "--rounds", "5"]), 5, 64);
    let msi = json(&["bench", "sim", "--rounds", "2", "--index", "msi"]);
    assert_eq!((&msi["index"], &msi["vectors"]), (&"msi".into(), &8.into()));
    assert!(said(&["bench", "sim", "--rounds", "1"]).contains("enable 64 at once"));
    let served = Served::start();
    check(&json(&["bench", &served.target(), "--rounds", "3"]), 3, 8);
    let none = refused(&["bench", &served.target(), "--index", "msi"]);
    assert!(none.ends_with("has no vectors of MSI; say --index msix\n"), "{none}");
    // A device has one client at a time.
    let client = Client::connect(served.socket(), ClientOptions::default()).unwrap();
    let refusal = refused(&["bench", &served.target()]);
    assert!(refusal.contains("it has a client already"), "{refusal}");
    drop(client);
}

#[test]
fn rules_are_tried_on_a_served_device() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("disk.sock");
    let words = ["serve", "nvme", "--socket", text(&socket), "--size", "1M", "--queues", "8"];
    let child = command(&words).spawn().unwrap();
    eventually("a server", || socket.with_extension("sock.counts").exists());
    let target = format!("vfio-user:{}", socket.display());
    let document = json(&["conform", &target, "--profile", "full"]);
    assert_eq!((&document["broken"], &document["profile"]), (&0.into(), &"full".into()));
    let verdict = |name: &str| {
        let cases = document["cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["case"] == name).unwrap();
        (case["rule"].as_str().unwrap(), case["verdict"].as_str().unwrap())
    };
    // The controller behind the socket raises its own interrupts.
    assert_eq!(verdict("b03_held_and_signalled_once"), ("B-03", "held"));
    assert_eq!(verdict("x06_signal_masks"), ("X-06", "not-applicable"));
    let tap = said(&["conform", &target, "--tap", "--only", "v07"]);
    assert!(tap.starts_with("TAP version 14\n1..") && tap.contains("\nok 1 - v07_"), "{tap}");
    assert!(stop(child, "-TERM").status.success());
    let unknown = command(&["conform", "sim", "--only", "v99"]).output().unwrap();
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert!(error.contains("no case of this profile has v99 in its name"), "{error}");
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn what_cannot_be_opened_is_said() {
    let tree = common::Tree::new();
    tree.function("0000:00:04.0", "010802", &common::config(65, 0), "nvme", "1");
    let refusal = refused(&tree.words(&["bench", "00:04.0"]));
    assert!(refusal.contains("not bound to a VFIO driver (nvme has it)"), "{refusal}");
    assert!(refusal.contains("`vfio-irq bind 0000:00:04.0`"), "{refusal}");
}

#[test]
fn a_signal_gives_the_terminal_back() {
    use rustix::termios::{LocalModes, tcgetattr};
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    for (signal, number) in [("-TERM", 15), ("-HUP", 1), ("-INT", 2)] {
        let (mut ours, theirs) = common::terminal(80, 24);
        let is_cooked = |terminal: &std::fs::File| {
            tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
        };
        let (state, input) = (theirs.try_clone().unwrap(), theirs.try_clone().unwrap());
        let mut command = command(&["watch", "sim", "--interval", "600"]);
        command.env("TERM", "xterm").stdin(input).stdout(theirs);
        let child = command.spawn().unwrap();
        drop(command);
        let mut bytes = [0; 4096];
        assert!(ours.read(&mut bytes).unwrap() > 0);
        eventually("raw mode", || !is_cooked(&state));
        let output = stop(child, signal);
        assert_eq!(output.status.signal(), Some(number), "{output:?}");
        assert_eq!(output.stderr, b"");
        assert!(is_cooked(&state));
        drop(state);
        let said = common::all_of(&mut ours);
        let (left, cursor) = (said.rfind("\x1b[?1049l"), said.rfind("\x1b[?25h"));
        assert!(left.is_some() && left < cursor, "{said:?}");
    }
    // A terminal that cannot be drawn on gets lines.
    let (mut ours, theirs) = common::terminal(80, 24);
    let mut command = command(&["watch", "sim", "--interval", "0.05"]);
    let child = command.env("TERM", "dumb").stdout(theirs).spawn().unwrap();
    drop(command);
    // The read fails if the command ends before it writes the header.
    let (mut said, mut bytes) = (String::new(), [0; 4096]);
    while !said.contains("VECTOR") {
        let length = ours.read(&mut bytes).unwrap();
        said += &String::from_utf8_lossy(&bytes[..length]);
    }
    stop(child, "-TERM");
    said += &common::all_of(&mut ours);
    assert!(!said.contains('\x1b'), "{said}");
}

#[test]
fn a_device_without_a_client_says_so() {
    let served = Served::start();
    let plain = || said(&["watch", &served.target(), "--once"]);
    assert!(plain().contains("\nno client yet\n"), "{}", plain());
    let client = Client::connect(served.socket(), ClientOptions::default()).unwrap();
    assert_eq!(json(&["watch", &served.target(), "--once"])["client"], true);
    assert!(!plain().contains("no client"));
    drop(client);
    eventually("an end", || plain().contains("no client"));
}

/// The terminal is closed without a signal; the program does not panic.
#[test]
fn a_terminal_that_goes_is_no_panic() {
    use std::io::Read;
    let (mut ours, theirs) = common::terminal(80, 24);
    let (input, error) = (theirs.try_clone().unwrap(), theirs.try_clone().unwrap());
    let mut command = command(&["watch", "sim", "--interval", "600"]);
    command.env("TERM", "xterm").stdin(input).stdout(theirs).stderr(error);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut bytes = [0; 4096];
    assert!(ours.read(&mut bytes).unwrap() > 0);
    drop(ours);
    let mut status = None;
    eventually("the end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(1));
}
