//! `vfio-irq demo`.

mod common;

use common::{command, json, refused};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

/// A field that is a number.
fn number(run: &Value, name: &str) -> u64 {
    run[name].as_u64().unwrap_or_else(|| panic!("{name} in {run}"))
}

#[test]
fn every_interrupt_is_accounted_for_and_none_is_lost_the_new_way() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("demo.svg");
    let picture = picture.to_str().unwrap();
    let said = json(&["demo", "--queues", "8", "--interval", "30", "--picture", picture]);
    let runs = said["runs"].as_array().unwrap();
    let methods: Vec<_> = runs.iter().map(|run| run["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["release-all", "dynamic"]);
    for run in runs {
        assert_eq!(number(run, "queues"), 8);
        // One command at a time, each told by itself.
        assert_eq!(number(run, "raised"), number(run, "completed"), "{run}");
        assert_eq!(number(run, "raised"), number(run, "delivered") + number(run, "lost"), "{run}");
        // A lost interrupt is a queue that waits for a second, and the other way round.
        assert_eq!(number(run, "lost"), number(run, "stalls"), "{run}");
        let stalled = number(run, "longest_gap_us") >= 1_000_000;
        assert!(stalled || number(run, "stalls") == 0, "{run}");
        assert!(number(run, "delivered") > 100, "{run}");
    }
    assert_eq!(number(&runs[1], "lost"), 0);
    assert_eq!(said["picture"], picture);
    let drawn = fs::read_to_string(picture).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("dynamic: no interrupt lost"), "{drawn}");
}

#[test]
fn one_method_can_be_shown_by_itself_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("demo.svg");
    let words = ["demo", "--queues", "2", "--interval", "10", "--method", "dynamic", "--picture"];
    let said = common::said(&[&words[..], &[picture.to_str().unwrap()]].concat());
    assert!(said.contains("dynamic: each vector added by itself: nothing was lost."), "{said}");
    assert!(!said.contains("release-all"), "{said}");
}

/// A short run with its picture at this place.
fn short(picture: &Path) -> Output {
    let words = ["demo", "--queues", "1", "--interval", "1", "--method", "dynamic", "--picture"];
    command(&[&words[..], &[picture.to_str().unwrap()]].concat()).output().unwrap()
}

#[test]
fn a_picture_takes_the_place_of_pictures_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // What is neither file nor folder is written to, and stays what it is.
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let pipe = at("pipe");
    let reader = std::thread::spawn(move || fs::read_to_string(pipe).unwrap());
    assert!(short(&at("pipe")).status.success());
    assert!(reader.join().unwrap().starts_with("<svg"));
    assert!(fs::symlink_metadata(at("pipe")).unwrap().file_type().is_fifo());
    // A link leads to the picture, and the file keeps its permissions.
    fs::write(at("file"), "before").unwrap();
    fs::set_permissions(at("file"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("file", at("link")).unwrap();
    assert!(short(&at("link")).status.success());
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert!(fs::read_to_string(at("file")).unwrap().starts_with("<svg"));
    assert_eq!(fs::metadata(at("file")).unwrap().permissions().mode() & 0o777, 0o600);
    // And nothing is left beside them.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    let error = String::from_utf8(short(folder.path()).stderr).unwrap();
    assert!(error.contains("directory; --picture FILE names another place"), "{error}");
}

#[test]
fn what_was_counted_is_told_without_a_picture_too() {
    let output = short(Path::new("/dev/full"));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("nothing was lost") && !said.contains("The picture"), "{said}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("cannot write /dev/full: No space left"), "{error}");
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let error = refused(&["demo", "--queues", "1", "--picture", "/nonexistent/demo.svg"]);
    let place = "cannot write /nonexistent/demo.svg: No such file or directory (os error 2); \
                 --picture FILE names another place\n";
    assert!(error.ends_with(place), "{error}");
    let error = refused(&["demo", "--device", "ffff:ff:1f.7"]);
    assert!(error.contains("ffff:ff:1f.7"), "{error}");
    let status = command(&["demo", "--queues", "0"]).output().unwrap().status;
    assert_eq!(status.code(), Some(2));
}
