//! Tests of completions, manual pages, and the command's exit.

mod common;

use common::{Tree, command, config, refused, said};
use std::process::Command;

const PARTS: [&str; 13] = [
    "demo",
    "list",
    "info",
    "bind",
    "unbind",
    "watch",
    "metrics",
    "bench",
    "conform",
    "serve",
    "completions",
    "man",
    "serve-nvme",
];

/// Makes a machine with two disks and a network card, and a served socket.
fn machine() -> Tree {
    let tree = Tree::new();
    let disk = tree.function("0000:00:04.0", "010802", &config(65, 0), "nvme", "1");
    tree.file(&format!("{disk}/nvme/nvme0/nvme0n1/queue/scheduler"), "none\n");
    tree.function("0000:01:00.0", "010802", &config(65, 0), "vfio-pci", "2");
    tree.has_driver("mlx5_vfio_pci");
    let card = tree.function("0000:02:00.0", "020000", &config(10, 0), "igb", "3");
    tree.file(&format!("{card}/net/enp2s0/flags"), "0x1002\n");
    let socket =
        |path: &str| format!("0000000000000000: 00000002 00000000 00010000 0001 01 77 {path}\n");
    let head = "Num RefCount Protocol Flags Type St Inode Path\n";
    let lines = ["/run/a b", "/run/disk.sock", "/run/disk.sock.counts", "/run/other"].map(socket);
    tree.file("proc/net/unix", [head, &lines.concat()].concat());
    tree
}

/// Returns the completions that bash offers for a partial line.
fn offered(tree: &Tree, line: &str) -> Vec<String> {
    let script = "source <(\"$1\" completions bash); COMP_LINE=$2; COMP_POINT=${#COMP_LINE}; _vfio_irq; \
                  printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["--norc", "-c", script, "bash", env!("CARGO_BIN_EXE_vfio-irq"), line])
        .env("VFIO_IRQ_ROOT", tree.path(""))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{line}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_what_there_is() {
    let tree = machine();
    let table: [(&str, &[&str]); 11] = [
        ("vfio-irq unb", &["unbind"]),
        ("vfio-irq bind 0000:0", &["00:04.0", "01:00.0", "02:00.0"]),
        // Bash replaces only the text after the last colon.
        ("vfio-irq bind 0000:01:", &["00.0"]),
        ("vfio-irq bind 01", &["01:00.0"]),
        ("vfio-irq bind en", &["enp2s0"]),
        ("vfio-irq demo --device nv", &["nvme0n1"]),
        ("vfio-irq watch s", &["sim"]),
        ("vfio-irq watch v", &["vfio-user:/run/disk.sock"]),
        ("vfio-irq info vfio-user:/run/d", &["/run/disk.sock"]),
        ("vfio-irq bind --driver ml", &["mlx5_vfio_pci"]),
        ("vfio-irq bind --driver ", &["mlx5_vfio_pci", "vfio-pci"]),
    ];
    for (line, expected) in table {
        assert_eq!(offered(&tree, line), expected, "{line}");
    }
    let all = offered(&tree, "vfio-irq info ");
    for one in ["0000:00:04.0", "sim", "vfio-user:/run/disk.sock"] {
        assert!(all.iter().any(|offer| offer == one), "{one}: {all:?}");
    }
}

/// The other shells are not installed: they ask as bash does, and name themselves.
#[test]
fn every_shell_is_told_how_to_ask_and_answered() {
    let tree = machine();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(&["completions", shell]);
        assert!(script.contains("VFIO_IRQ_COMPLETE") && script.contains("vfio-irq"), "{shell}");
        let words = ["--", "vfio-irq", "info", "0000:01"];
        let mut command = command(&words);
        command.env("VFIO_IRQ_ROOT", tree.path("")).env("VFIO_IRQ_COMPLETE", shell);
        let output = command.env("_CLAP_COMPLETE_INDEX", "2").output().unwrap();
        // zsh wants colons quoted.
        let text = String::from_utf8(output.stdout).unwrap().replace('\\', "");
        assert!(output.status.success() && text.contains("01:00.0"), "{shell}: {text}");
        assert!(!text.contains("02:00.0"), "{shell}: {text}");
    }
    let status =
        command(&["--", "vfio-irq", "info", "x"]).env("VFIO_IRQ_COMPLETE", "lost").status();
    assert_eq!(status.unwrap().code(), Some(1));
}

/// No line of help is longer than the terminal.
#[test]
fn help_fits_the_terminal() {
    for columns in [60, 80, 120] {
        for words in [&["--help"][..], &["demo", "--help"], &["serve", "nvme", "--help"]] {
            let (mut ours, theirs) = common::terminal(columns, 24);
            let mut command = command(words);
            let mut child = command.stdout(theirs).spawn().unwrap();
            drop(command);
            let text = common::all_of(&mut ours);
            // The usage is one line, which fits 80 columns.
            let usage = |line: &&str| columns >= 80 || !line.starts_with("Usage:");
            let text = text.lines().filter(usage).collect::<Vec<_>>().join("\n");
            assert!(child.wait().unwrap().success());
            let longest = common::widths(&text).into_iter().max().unwrap();
            let used = usize::from(columns) * 3 / 4..=usize::from(columns);
            assert!(used.contains(&longest), "{words:?}, {columns}: {longest}\n{text}");
        }
    }
}

#[test]
fn every_part_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    said(&["man", "--out", out.to_str().unwrap()]);
    let mut names: Vec<String> = PARTS.iter().map(|part| format!("vfio-irq-{part}.1")).collect();
    names.push("vfio-irq.1".into());
    names.sort();
    let mut there: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    // Subcommands that are added later have pages, too.
    names.iter().for_each(|name| assert!(there.contains(name), "{name}: {there:?}"));
    for name in there {
        let page = std::fs::read_to_string(out.join(&name)).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
        assert_eq!(said(&["man", &name]), page);
    }
    let neither = String::from_utf8(command(&["man"]).output().unwrap().stderr).unwrap();
    assert!(neither.contains("Usage: vfio-irq man <--out <DIRECTORY>|PAGE>"), "{neither}");
    assert!(refused(&["man", "vfio-irq-lost"]).contains("these are: vfio-irq, "));
}

#[test]
fn usage_errors_end_with_2_and_are_json_where_json_is_wanted() {
    for words in [&["lost"][..], &["info"], &["info", "1.0"], &["watch", "sim", "--interval", "0"]]
    {
        let output = command(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let output = command(&[words, &["--json"]].concat()).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{words:?}");
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        let what = error["error"].as_str().unwrap();
        assert!(what.len() > 20 && !what.contains("--help"), "{words:?}: {error}");
    }
    assert!(said(&["--help"]).contains("vfio-user:PATH"));
    assert!(said(&["--version"]).starts_with("vfio-irq "));
}

#[test]
fn a_reader_that_goes_is_no_failure() {
    let mut child = command(&["watch", "sim", "--json", "--interval", "0.01"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
