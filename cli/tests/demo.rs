//! `vfio-irq demo`.

mod common;

use common::{command, json, refused};
use serde_json::Value;
use std::fs;

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

#[test]
fn what_cannot_be_shown_is_refused() {
    let error = refused(&["demo", "--queues", "1", "--picture", "/nonexistent/demo.svg"]);
    assert!(error.contains("cannot write /nonexistent/demo.svg"), "{error}");
    let error = refused(&["demo", "--device", "ffff:ff:1f.7"]);
    assert!(error.contains("ffff:ff:1f.7"), "{error}");
    let status = command(&["demo", "--queues", "0"]).output().unwrap().status;
    assert_eq!(status.code(), Some(2));
}
