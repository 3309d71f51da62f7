//! `vfio-irq demo`.

mod common;

use common::{Tree, command, config, eventually, json, refused, stop, text};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

/// Returns a field that is a number.
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
        // Each queue has one command outstanding, and each completion has its own interrupt.
        assert_eq!(number(run, "raised"), number(run, "completed"), "{run}");
        assert_eq!(number(run, "raised"), number(run, "delivered") + number(run, "lost"), "{run}");
        // Each lost interrupt is a queue that waits for a second, and vice versa.
        assert_eq!(number(run, "lost"), number(run, "stalls"), "{run}");
        let stalled = number(run, "longest_gap_us") >= 1_000_000;
        assert!(stalled || number(run, "stalls") == 0, "{run}");
        assert!(number(run, "delivered") > 100, "{run}");
    }
    assert_eq!(number(&runs[1], "lost"), 0);
    assert_eq!((&said["picture"], &said["counted"]), (&picture.into(), &"by-device".into()));
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

/// Makes a short run with its picture at this path. Returns the output.
fn short(picture: &Path) -> Output {
    let words = ["demo", "--queues", "1", "--interval", "1", "--method", "dynamic", "--picture"];
    command(&[&words[..], &[picture.to_str().unwrap()]].concat()).output().unwrap()
}

#[test]
fn a_picture_takes_the_place_of_pictures_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // A path that is neither a file nor a directory is written to, and stays as it is.
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
    // No file is left beside them.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    let error = String::from_utf8(short(folder.path()).stderr).unwrap();
    assert!(error.contains("directory; --picture FILE names another place"), "{error}");
}

/// Returns the output of a run on a terminal of this width, or of unknown width.
fn on_terminal(name: &str, columns: u16) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("demo.svg");
    let (mut ours, theirs) = common::terminal(columns, columns / 3);
    let table = fs::File::create(folder.path().join("table")).unwrap();
    let words = ["demo", "--queues", "8", "--interval", "20", "--picture"];
    let mut child = command(&[&words[..], &[picture.to_str().unwrap()]].concat())
        .env("TERM", name)
        .stdout(table)
        .stderr(theirs)
        .spawn()
        .unwrap();
    let said = common::all_of(&mut ours);
    assert!(child.wait().unwrap().success());
    (said, fs::read_to_string(folder.path().join("table")).unwrap())
}

/// Returns the interrupts and stalls of each method, as in the table.
fn counted(table: &str) -> Vec<String> {
    let rows = ["release-all ", "dynamic "].into_iter().map(|method| {
        let row = table.lines().find(|line| line.starts_with(method)).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        let stalls = if words[5] == "1" { "stall" } else { "stalls" };
        format!("{} interrupts raised, {} {stalls}", words[2], words[5])
    });
    rows.collect()
}

#[test]
fn a_terminal_that_cannot_go_back_gets_a_few_lines() {
    for (name, columns) in [("linux", 0), ("dumb", 80), ("", 80), ("xterm", 45)] {
        let (said, table) = on_terminal(name, columns);
        assert!(!said.contains('\x1b'), "{name}, {columns}: {said}");
        let lines: Vec<&str> = said.lines().map(|line| line.split(',').next().unwrap()).collect();
        let expected = ["release-all", "dynamic"]
            .map(|method| [2, 4, 6, 8].map(|queues| format!("{method}: {queues} of 8 queues")));
        assert_eq!(lines, expected.concat(), "{name}, {columns}");
        // The last line of each run contains the numbers of the table.
        let last = said.lines().filter(|line| line.contains("8 of 8"));
        for (line, counted) in last.zip(counted(&table)) {
            assert!(line.ends_with(&counted), "{line}: {table}");
        }
    }
}

#[test]
fn a_terminal_that_can_has_one_line_that_fits() {
    let (said, table) = on_terminal("xterm", 80);
    assert!(said.contains("8/8 queues") && said.contains(" interrupts raised, "), "{said}");
    let ends: Vec<&str> = said.lines().filter(|line| line.contains("8/8")).collect();
    let counted = counted(&table);
    assert!(ends.len() >= 2 && counted.iter().all(|it| said.contains(it)), "{said} {table}");
    assert!(common::widths(&said).into_iter().all(|width| width <= 80), "{said}");
}

#[test]
fn a_signal_ends_it_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let picture = folder.path().join("demo.svg");
    let words = ["demo", "--interval", "10000", "--picture", picture.to_str().unwrap()];
    let child = command(&words).env("TMPDIR", &temporary).spawn().unwrap();
    let is_there = || fs::read_dir(&temporary).unwrap().next().is_some();
    eventually("its socket", is_there);
    let output = stop(child, "-INT");
    assert_eq!(output.status.signal(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert!(!is_there());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Runs the demo with this many queues in a shell with such a limit of descriptors.
fn limited(limit: &str, queues: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "ulimit {limit} && exec {} demo --queues {queues} --interval 1 --picture {}/demo.svg",
        env!("CARGO_BIN_EXE_vfio-irq"),
        folder.path().display()
    );
    Command::new("sh").args(["-c", &script]).output().unwrap()
}

#[test]
fn descriptors_are_asked_for() {
    let output = limited("-Sn 64", "24");
    assert!(output.status.success(), "{output:?}");
    let error = String::from_utf8(limited("-n 100", "10").stderr).unwrap();
    let expected = "error: 10 queues take 104 descriptors, and a process may have 100; \
                    say --queues 9, or raise the limit (ulimit -Hn)\n";
    assert_eq!(error, expected);
    let output = limited("-n 100", "9");
    assert!(output.status.success(), "{output:?}");
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
    let folder = tempfile::tempdir().unwrap();
    let error = refused(&["demo", "--queues", "1", "--picture", "/nonexistent/demo.svg"]);
    let place = "cannot write /nonexistent/demo.svg: No such file or directory (os error 2); \
                 --picture FILE names another place\n";
    assert!(error.ends_with(place), "{error}");
    let error = refused(&["demo", "--device", "ffff:ff:1f.7"]);
    assert!(error.contains("ffff:ff:1f.7"), "{error}");
    let tree = Tree::new();
    tree.function("0000:00:05.0", "010802", &config(65, 0), "nvme", "2");
    tree.function("0000:00:06.0", "020000", &config(5, 0), "vfio-pci", "3");
    let place = folder.path().join("demo.svg");
    let on = |bdf| refused(&tree.words(&["demo", "--picture", text(&place), "--device", bdf]));
    assert!(on("00:05.0").contains("`vfio-irq bind 0000:00:05.0`"), "{}", on("00:05.0"));
    assert!(
        on("00:06.0").contains("class 020000, Ethernet controller; `vfio-irq list`"),
        "{}",
        on("00:06.0")
    );
    let status = command(&["demo", "--queues", "0"]).output().unwrap().status;
    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_picture_can_be_printed() {
    let words =
        ["demo", "--queues", "1", "--interval", "1", "--method", "dynamic", "--picture", "-"];
    let output = command(&words).output().unwrap();
    let drawn = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success());
    assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
    assert!(said.contains("nothing was lost") && !said.contains("The picture"), "{said}");
    for line in ["STALLS: ", "LONGEST GAP: ", "LONGEST ADD: "] {
        assert_eq!(said.matches(line).count(), 1, "{said}");
    }
    assert!(!Path::new("-").exists());
    for other in ["--json", "--open"] {
        let output = command(&[&words[..], &[other]].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    // Letters can be read even with few queues, and each queue has one label.
    let sizes = drawn.split("font-size=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let sizes: Vec<f64> = sizes.map(|size| size.parse().unwrap()).collect();
    assert!(sizes.iter().all(|size| *size >= 11.0), "{sizes:?}");
    let ones = drawn.split('\n').filter(|line| line.trim() == "1").count();
    assert_eq!(ones, 1, "{drawn}");
}
