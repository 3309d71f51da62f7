//! Tests of `vfio-irq serve`.

mod common;

use common::{Tree, eventually, stop};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use vfio_irq_user::{Client, ClientOptions};

fn command(words: &[&str]) -> Command {
    common::command(&[&["serve", "nvme"], words].concat())
}

/// Runs the command to its end, which must be a failure. Returns its message.
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
    for signal in ["-TERM", "-INT", "-HUP"] {
        let words = ["--socket", text(&one), "--socket", text(&other), "--size", "1M"];
        let child = command(&[&words[..], &["--queues", "7"]].concat()).spawn().unwrap();
        eventually("two sockets", || one.exists() && other.exists());
        // A connected client does not delay the end after a signal.
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
    let long = |bytes: usize| path(&"x".repeat(bytes - directory.len() - 1));
    let inside = format!("{disk}/a.sock");
    // An impossible command line has status 2, a refusal of the system status 1.
    let table: [(&[&str], &str, i32); 18] = [
        (&["--socket", &socket], "--size <SIZE>|--file <DISK>", 2),
        (&["--size", "1M"], "--socket <PATH>", 2),
        (&["--socket", &socket, "--size", "lots"], "a number with K, M, G or T", 2),
        (&["--socket", &socket, "--size", "64"], "a multiple of 512; 64M is one", 2),
        (&["--socket", &socket, "--size", "1M", "--queues", "2000"], "1..=1024", 2),
        (&["--socket", &directory, "--size", "1M"], "is a directory; name a socket in it: ", 2),
        (&["--socket", &disk, "--size", "1M"], "exists and is no socket; choose a path", 2),
        (&["--socket", &inside, "--size", "1M"], "is no directory", 2),
        (&["--socket", "/nonexistent/a.sock", "--size", "1M"], "mkdir -p /nonexistent", 2),
        (&["--socket", "/", "--size", "1M"], "names no socket; name one", 2),
        (&["--socket", &long(101), "--size", "1M"], "has 101 bytes, which is too long; a", 2),
        (&["--socket", &long(140), "--size", "1M"], "100 bytes are right; name it relative", 2),
        (&["--socket", &socket, "--size", "1M", "--socket-mode", "888"], "600, 660 or 666", 2),
        (&["--socket", &socket, "--size", "1M", "--socket-group", "?"], "`getent group`", 2),
        (&["--socket", &socket, "--file", &odd], "a multiple of 512", 1),
        (&["--socket", &socket, "--file", &path("none")], "cannot open", 1),
        (&["--socket", &socket, "--file", &directory], "cannot open", 1),
        (
            &["--socket", &socket, "--socket", &path("b.sock"), "--file", &disk],
            "2 sockets and 1 disk; say --file once for each --socket",
            2,
        ),
    ];
    for (words, what, status) in table {
        let output = command(words).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        assert!(said.contains(what), "{words:?}: {said}");
        assert!(!Path::new(&socket).exists());
    }
    // The longest path is valid, and its counts have a path, too.
    let child = command(&["--socket", &long(100), "--size", "1M"]).spawn().unwrap();
    eventually("counts", || Path::new(&format!("{}.counts", long(100))).exists());
    assert!(stop(child, "-TERM").status.success());
    let spelled = format!("{directory}/./a.sock");
    let twice = refused(&["--socket", &socket, "--socket", &spelled, "--size", "1M"]);
    assert!(twice.contains("is named twice; each controller has a socket of its own"), "{twice}");
    let counts = format!("{socket}.counts");
    let both = refused(&["--socket", &socket, "--socket", &counts, "--size", "1M"]);
    assert!(both.contains("a.sock.counts is needed for"), "{both}");
    // A socket with a listener, and a disk that another server uses.
    let child = command(&["--socket", &socket, "--file", &disk]).spawn().unwrap();
    eventually("a server", || Path::new(&counts).exists());
    assert!(refused(&["--socket", &socket, "--size", "1M"]).contains("in use by another server"));
    assert!(refused(&["--socket", &path("c.sock"), "--file", &disk]).contains("in use by another"));
    assert!(stop(child, "-TERM").status.success());
}

/// Makes a machine with the disk vda, its partition vda1, and a file at each device's node.
fn disks() -> Tree {
    let tree = Tree::new();
    for (name, at) in [("vda", "sys/block/vda"), ("vda1", "sys/block/vda/vda1")] {
        let number = if name == "vda" { "254:0" } else { "254:1" };
        tree.file(&format!("{at}/dev"), format!("{number}\n"));
        tree.link(&format!("sys/class/block/{name}"), at);
        tree.file(&format!("dev/{name}"), vec![7; 4096]);
    }
    tree.file("sys/block/vda/vda1/partition", "1\n");
    tree
}

/// A change of a machine, a served disk, and the obstacle.
type Case = (fn(&Tree), &'static str, &'static str);

#[test]
fn a_disk_that_is_in_use_is_not_served() {
    let cases: [Case; 7] = [
        (
            |tree| tree.file("proc/self/mountinfo", "36 1 254:1 / /data rw - ext4 /dev/vda1 rw\n"),
            "vda1",
            "vda1 is mounted at /data: umount /data",
        ),
        (
            |tree| tree.file("proc/self/mountinfo", "36 1 254:1 / /data rw - ext4 /dev/vda1 rw\n"),
            "vda",
            "vda1 on vda is mounted at /data: umount /data",
        ),
        (
            |tree| tree.file("proc/self/mountinfo", "36 1 254:0 / /data rw - ext4 /dev/vda rw\n"),
            "vda1",
            "vda is mounted at /data",
        ),
        (
            |tree| tree.file("proc/swaps", "Filename Type\n/dev/vda1 partition 1 0 -2\n"),
            "vda",
            "vda1 on vda is swap space: swapoff /dev/vda1",
        ),
        (
            |tree| tree.file("sys/block/vda/holders/dm-3/size", "1\n"),
            "vda1",
            "the mapped device dm-3 is built on vda",
        ),
        (
            |tree| {
                let path = tree.path("image");
                tree.file("image", vec![7; 4096]);
                tree.file("proc/swaps", format!("Filename Type\n{} file 1 0 -2\n", path.display()));
            },
            "../image",
            "image is swap space: swapoff ",
        ),
        (
            |tree| {
                let path = tree.path("image");
                tree.file("image", vec![7; 4096]);
                tree.file("sys/block/loop0/loop/backing_file", format!("{}\n", path.display()));
                tree.file("sys/block/loop0/dev", "7:0\n");
                tree.link("sys/class/block/loop0", "sys/block/loop0");
            },
            "../image",
            "the block device loop0 is made from ",
        ),
    ];
    for (change, name, expected) in cases {
        let tree = disks();
        let file = tree.path("dev").join(name);
        let socket = tree.path("a.sock");
        let words = ["serve", "nvme", "--socket", text(&socket), "--file", text(&file)];
        change(&tree);
        let said = common::refused(&tree.words(&words));
        assert!(said.contains("is not served, because:") && said.contains(expected), "{said}");
        assert!(!socket.exists());
        assert_eq!(std::fs::read(file).unwrap(), [7; 4096]);
    }
    // A disk without a user is served.
    let tree = disks();
    let (socket, file) = (tree.path("a.sock"), tree.path("dev/vda"));
    let words = ["serve", "nvme", "--socket", text(&socket), "--file", text(&file)];
    let child = common::command(&tree.words(&words)).spawn().unwrap();
    eventually("a socket", || socket.exists());
    assert!(stop(child, "-TERM").status.success());
}

/// QEMU locks images, files and block devices alike, and opens none of them exclusively.
#[test]
fn a_disk_that_another_program_has_locked_is_not_served() {
    let tree = disks();
    tree.file("image", vec![7; 4096]);
    let socket = tree.path("a.sock");
    for disk in ["image", "dev/vda"] {
        let file = std::fs::File::open(tree.path(disk)).unwrap();
        // QEMU's locks are fcntl locks, which flock does not see.
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockShared).unwrap();
        let path = tree.path(disk);
        let words = ["serve", "nvme", "--socket", text(&socket), "--file", text(&path)];
        let said = common::refused(&tree.words(&words));
        let process = format!("is in use by process {}, which has locked it", std::process::id());
        assert!(said.contains(&process) && said.contains("fuser -v"), "{said}");
    }
}

/// Runs on machines that let this process have a loop device.
#[test]
fn a_block_device_that_is_claimed_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, image) = (folder.path().join("a.sock"), folder.path().join("image"));
    std::fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let made = Command::new("losetup").args(["-f", "--show", text(&image)]).output();
    let Some(made) = made.ok().filter(|output| output.status.success()) else {
        return println!("not tried: this process gets no loop device");
    };
    let device = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let words = ["--socket", text(&socket), "--file", &device];
    let exclusive = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap();
    let claim = std::fs::File::options().read(true).custom_flags(exclusive).open(&device);
    let refusals = [
        refused(&words),
        // The system made of files does not show the claim, so only the real system's refusal
        // remains.
        common::refused(&Tree::new().words(&[&["serve", "nvme"], &words[..]].concat())),
    ];
    drop(claim.unwrap());
    let child = command(&words).spawn().unwrap();
    eventually("a socket", || socket.exists());
    let served = stop(child, "-TERM").status.success();
    let freed = Command::new("losetup").args(["-d", &device]).status().unwrap();
    assert!(freed.success() && served);
    let name = device.trim_start_matches("/dev/");
    assert!(refusals[0].contains(&format!("{name} is in use")), "{}", refusals[0]);
    assert!(
        refusals[1].contains("is in use by another program, or it is mounted"),
        "{}",
        refusals[1]
    );
}

#[test]
fn who_may_connect_can_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("a.sock");
    let counts = folder.path().join("a.sock.counts");
    let own = std::fs::metadata(folder.path()).unwrap().gid().to_string();
    let table: [(&[&str], u32); 4] = [
        (&["--socket-mode", "600"], 0o600),
        (&["--socket-mode", "666"], 0o666),
        (&["--socket-group", &own], 0o660),
        (&["--socket-group", &own, "--socket-mode", "770"], 0o770),
    ];
    for (access, mode) in table {
        let words = ["--socket", text(&socket), "--size", "1M"];
        let child = command(&[&words, access].concat()).spawn().unwrap();
        let has =
            |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o777 == mode);
        eventually("the mode", || has(&socket) && has(&counts));
        assert_eq!(std::fs::metadata(&socket).unwrap().gid().to_string(), own);
        assert!(stop(child, "-TERM").status.success());
    }
}

#[test]
fn the_first_lines_are_to_be_copied() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("a.sock");
    let child = command(&["--socket", text(&socket), "--size", "1M"]).spawn().unwrap();
    eventually("a socket", || socket.with_extension("sock.counts").exists());
    let output = stop(child, "-HUP");
    let said = String::from_utf8(output.stdout).unwrap();
    let path = text(&socket);
    let expected = format!(
        "An NVMe controller waits at {path}: 1 MiB, 64 queues\n  \
         QEMU:   -object memory-backend-memfd,id=mem,size=1G,share=on -machine memory-backend=mem \
         -device '{{\"driver\":\"vfio-user-pci\",\"socket\":{{\"path\":\"{path}\",\"type\":\"unix\"}}}}'\n  \
         watch:  vfio-irq watch vfio-user:{path}\n"
    );
    assert_eq!(said, expected);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("stopping") && log.contains("SIGHUP") && !log.contains('\x1b'), "{log}");
}

#[test]
fn events_as_json_have_a_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("a.sock");
    let words = ["--socket", text(&socket), "--size", "1M", "--queues", "3", "--json"];
    let mut child = command(&words).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = move || -> serde_json::Value {
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    };
    let ready = next();
    assert_eq!(ready["event"], "an NVMe controller waits for its client");
    assert_eq!((&ready["schema"], &ready["level"]), (&1.into(), &"info".into()));
    assert_eq!((&ready["bytes"], &ready["queues"]), (&(1 << 20).into(), &3.into()));
    assert_eq!(ready["watch"], format!("vfio-irq watch vfio-user:{}", text(&socket)));
    assert!(ready["time"].as_str().unwrap().ends_with('Z'), "{ready}");
    drop(Client::connect(&socket, ClientOptions::default()).unwrap());
    let come = next();
    assert_eq!(
        (&come["event"], &come["path"]),
        (&"a client has come".into(), &text(&socket).into())
    );
    assert_eq!(come["pid"], std::process::id());
    while next()["event"] != "the client is gone" {}
    let output = stop(child, "-TERM");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
    let stopping = next();
    assert_eq!((&stopping["event"], &stopping["signal"]), (&"stopping".into(), &"SIGTERM".into()));
    let totals = next();
    assert_eq!((&totals["event"], &totals["reads"]), (&"in all".into(), &0.into()));
}

#[test]
fn a_terminal_without_colours_gets_none() {
    for (name, value, coloured) in
        [("NO_COLOR", "1", false), ("TERM", "dumb", false), ("NO_COLOR", "", true)]
    {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("a.sock");
        let (mut ours, theirs) = common::terminal(80, 24);
        let mut command = command(&["--socket", text(&socket), "--size", "1M"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR").env(name, value).stderr(theirs);
        let child = command.spawn().unwrap();
        drop(command);
        eventually("a socket", || socket.with_extension("sock.counts").exists());
        assert!(stop(child, "-TERM").status.success());
        let said = common::all_of(&mut ours);
        assert!(said.contains("stopping") && said.contains('\x1b') == coloured, "{name}: {said}");
    }
}

/// A file that was truncated cannot be read beyond its end.
#[test]
fn commands_that_the_disk_fails_are_warnings() {
    use vfio_irq_nvme_driver::{Driver, Options, Socket};
    let folder = tempfile::tempdir().unwrap();
    let (socket, image) = (folder.path().join("a.sock"), folder.path().join("image"));
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(1 << 20).unwrap();
    let child = command(&["--socket", text(&socket), "--file", text(&image)]).spawn().unwrap();
    eventually("a server", || socket.with_extension("sock.counts").exists());
    let driver = Driver::open(Socket::connect(&socket).unwrap(), Options::default()).unwrap();
    let (mut queue, buffer) = (driver.create_queue(1).unwrap(), driver.buffer(4096).unwrap());
    assert!(queue.read(0, &buffer).is_ok());
    file.set_len(0).unwrap();
    (0..5).for_each(|_| assert!(queue.read(1024, &buffer).is_err()));
    drop((queue, buffer, driver));
    let log = String::from_utf8(stop(child, "-TERM").stderr).unwrap();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("the disk failed")).collect();
    // The first, the second and the fourth.
    assert_eq!(warnings.len(), 3, "{log}");
    assert!(warnings.iter().all(|line| line.contains("WARN")), "{log}");
}

#[test]
fn a_server_that_was_told_to_ignore_hangups_does() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("a.sock");
    let script = "trap '' HUP; exec \"$0\" serve nvme --socket \"$1\" --size 1M";
    let words = ["-c", script, env!("CARGO_BIN_EXE_vfio-irq"), text(&socket)];
    let quiet = std::process::Stdio::null;
    let child = Command::new("sh").args(words).stdout(quiet()).stderr(quiet()).spawn().unwrap();
    eventually("a socket", || socket.with_extension("sock.counts").exists());
    let pid = child.id().to_string();
    // Two signals would end it at once if they were not ignored.
    for _ in 0..2 {
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }
    drop(Client::connect(&socket, ClientOptions::default()).unwrap());
    assert!(stop(child, "-TERM").status.success());
}
