//! Completions, manual pages, and how the command ends.

mod common;

use common::{command, refused, said};

const PARTS: [&str; 11] = [
    "demo",
    "list",
    "info",
    "bind",
    "unbind",
    "watch",
    "bench",
    "serve",
    "completions",
    "man",
    "serve-nvme",
];

#[test]
fn every_shell_completes_every_part() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = said(&["completions", shell]);
        let parts = PARTS.iter().filter(|part| !part.contains('-'));
        parts.for_each(|part| assert!(text.contains(part), "{shell}: {part}"));
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
    // Parts that are added later have pages, too.
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
