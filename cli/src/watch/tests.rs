//! Tests of the terminal's contents.

use super::app::App;
use super::run::look;
use super::source::Source;
use super::{columns, view};
use crate::counts::{Counts, Row};
use crate::target::Target;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use std::time::Duration;

/// Returns four vectors after `seconds` seconds: the first busy, the second busier, the third
/// masked, the last idle.
fn counts(seconds: u64) -> Counts {
    let row = |(vector, signals): (u32, u64)| Row {
        vector: Some(vector),
        irq: Some(27 + vector),
        state: Some(if vector == 2 { "masked" } else { "unmasked" }.to_owned()),
        signals: Some(signals),
        masks: Some(u64::from(vector == 2)),
        unmasks: Some(0),
        retargets: Some(3),
        loopbacks: Some(0),
        failures: Some(1),
        ..Row::default()
    };
    let signals = [1000 + 10 * seconds, 20 * seconds * seconds, 7, 5000];
    Counts {
        device: "0000:00:04.0 NVMe controller [1b36:0010]".to_owned(),
        driver: "vfio-pci".to_owned(),
        facts: [("mode".to_owned(), "msix".into())].into(),
        totals: [("requests".to_owned(), 12), ("refused".to_owned(), 1)].into(),
        vectors: (0..).zip(signals).map(row).collect(),
        gone: Some(Row { signals: Some(30), ..Row::default() }),
        client: None,
    }
}

fn app() -> App {
    let mut app = App::default();
    for seconds in 0..8 {
        app.meter.next(counts(seconds), Duration::from_secs(seconds));
    }
    app
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, app)).unwrap();
    terminal.backend().to_string()
}

fn order(app: &App) -> Vec<u32> {
    let snapshot = app.meter.last().unwrap();
    app.rows(snapshot).iter().filter_map(|row| row.vector).collect()
}

#[test]
fn the_screen_shows_every_vector() {
    insta::assert_snapshot!("screen", screen(&app(), 96, 13));
}

#[test]
fn keys_sort_and_hide() {
    let mut app = app();
    assert_eq!(order(&app), [0, 1, 2, 3]);
    assert!(app.press(KeyCode::Char('s')));
    assert_eq!(order(&app), [1, 0, 2, 3]);
    assert!(app.press(KeyCode::Char('s')));
    assert_eq!(order(&app), [3, 0, 1, 2]);
    assert!(app.press(KeyCode::Char('i')));
    assert_eq!(order(&app), [0, 1]);
    insta::assert_snapshot!("screen_by_total_without_idle", screen(&app, 96, 10));
    assert!(!app.press(KeyCode::Char('q')));
}

#[test]
fn what_does_not_fit_is_scrolled_to() {
    let mut app = app();
    assert!(!screen(&app, 96, 5).contains(" 29 "));
    (0..2).for_each(|_| assert!(app.press(KeyCode::Down)));
    assert!(screen(&app, 96, 5).contains(" 29 "));
    app.press(KeyCode::PageDown);
    assert!(screen(&app, 96, 5).contains("gone"));
    app.press(KeyCode::Home);
    assert!(screen(&app, 96, 5).contains(" 27 "));
}

#[test]
fn a_terminal_of_usual_size_shows_every_column() {
    let app = app();
    insta::assert_snapshot!("screen_80", screen(&app, 80, 24));
    // Short names, and no number is cut.
    let shown = screen(&app, 60, 24);
    for name in ["RETARG", "LOOPS", "FAILS", "STATE", " 5000 "] {
        assert!(shown.contains(name) && !shown.contains("not shown"), "{name}: {shown}");
    }
}

/// At every size, each vector is on the screen, or the screen says that it is not.
#[test]
fn what_is_not_shown_is_told() {
    let app = app();
    insta::assert_snapshot!("screen_20", screen(&app, 20, 5));
    let narrow = screen(&app, 40, 12);
    for name in ["VEC", "TOTAL", "RATE/S", "not shown: IRQ, ", " 5000 "] {
        assert!(narrow.contains(name), "{name}: {narrow}");
    }
    let low = screen(&app, 80, 6);
    assert!(low.contains("not shown: 2 below"), "{low}");
    for width in (10..120).step_by(7) {
        for height in 4..20 {
            let shown = screen(&app, width, height);
            let words: Vec<&str> = shown.split([' ', '"']).collect();
            let rows = ["1070", "980", "7", "5000"].iter().filter(|row| words.contains(*row));
            let told = shown.contains("below") || rows.count() == 4;
            assert!(told, "{width}, {height}: {shown}");
        }
    }
    let mut idle = super::tests::app();
    idle.press(KeyCode::Char('i'));
    assert!(screen(&idle, 80, 24).contains("not shown: 3 idle"), "{}", screen(&idle, 80, 24));
    // No terminal is too small.
    for (width, height) in [(1, 1), (3, 2), (20, 5), (300, 80)] {
        screen(&app, width, height);
    }
    screen(&App::default(), 80, 20);
}

#[test]
fn the_columns_are_explained() {
    let mut app = app();
    assert!(app.press(KeyCode::Char('?')));
    insta::assert_snapshot!("help", screen(&app, 80, 24));
    let first = screen(&app, 40, 10);
    assert!(first.contains("VECTOR (VEC)") && first.contains("↓ more"), "{first}");
    (0..3).for_each(|_| assert!(app.press(KeyCode::PageDown)));
    let last = screen(&app, 40, 10);
    assert!(last.contains("closes this help") && last.contains("any key: back"), "{last}");
    // The key that quits closes the help first.
    assert!(app.press(KeyCode::Char('q')));
    assert!(screen(&app, 80, 24).contains(" 5000 "));
    assert!(!app.press(KeyCode::Char('q')));
}

/// Runs a server that publishes these counts a number of times, and then ends.
fn server(path: &std::path::Path, counts: &Counts, times: usize) -> std::thread::JoinHandle<()> {
    use std::io::Write;
    let path = crate::serve::counts::beside(path);
    let text = serde_json::to_string(counts).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for _ in 0..times {
            listener.accept().unwrap().0.write_all(text.as_bytes()).unwrap();
        }
        std::fs::remove_file(path).unwrap();
    })
}

#[test]
fn what_a_served_device_lacks_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let system = crate::pci::System::at(folder.path());
    let source = Source::of(&system, &Target::User(path.clone())).unwrap();
    let mut app = App::default();
    let begun = std::time::Instant::now();
    let without = Counts { client: Some(false), ..Counts::default() };
    server(&path, &without, 1).join_after(|| look(&mut app, &source, begun));
    assert!(screen(&app, 80, 24).contains("no client yet"), "{}", screen(&app, 80, 24));
    let after = Counts { client: Some(false), ..counts(1) };
    server(&path, &after, 1).join_after(|| look(&mut app, &source, begun));
    assert!(screen(&app, 80, 24).contains("no client now"));
    look(&mut app, &source, begun);
    let ended = screen(&app, 80, 24);
    assert!(ended.contains("the server has ended: ") && ended.contains(" 5000 "), "{ended}");
    // The server is started again, and has a client.
    let with = Counts { client: Some(true), ..counts(2) };
    server(&path, &with, 1).join_after(|| look(&mut app, &source, begun));
    let again = screen(&app, 80, 24);
    assert!(!again.contains("ended") && !again.contains("no client"), "{again}");
}

/// A function with the Rust core: at work, closed, opened again, unbound, and bound again.
#[test]
fn a_function_is_watched_whatever_becomes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |file: &str| folder.path().join(file);
    let put = |file: &str, text: &str| {
        std::fs::create_dir_all(at(file).parent().unwrap()).unwrap();
        std::fs::write(at(file), text).unwrap();
    };
    let function = "sys/bus/pci/devices/0000:00:04.0";
    for (file, text) in [("class", "0x010802"), ("vendor", "0x1b36"), ("device", "0x0010")] {
        put(&format!("{function}/{file}"), text);
    }
    let driver = at(function).join("driver");
    std::os::unix::fs::symlink("/sys/bus/pci/drivers/vfio-pci", &driver).unwrap();
    let interrupts = "sys/kernel/debug/vfio/0000:00:04.0/interrupts";
    let enabled = |signals: u64| {
        let names = "vector irq state signals masks unmasks retargets loopbacks failures";
        format!(
            "mode msix requests 1\n{names}\n0 27 unmasked {signals} 0 0 0 0 0\ngone - - 0 0 0 0 0 0\n"
        )
    };
    put(interrupts, &enabled(50));
    let system = crate::pci::System::at(folder.path());
    let source = Source::of(&system, &Target::Pci("00:04.0".parse().unwrap())).unwrap();
    let mut app = App::default();
    let begun = std::time::Instant::now();
    let mut seen = |text: Option<&str>| {
        match text {
            Some(text) => put(interrupts, text),
            None => std::fs::remove_file(at(interrupts)).unwrap(),
        }
        std::thread::sleep(Duration::from_millis(2));
        look(&mut app, &source, begun);
        let rate = app.meter.last().and_then(|snapshot| snapshot.rate);
        assert!(rate.is_none_or(|rate| rate >= 0.0), "{rate:?}");
        screen(&app, 80, 24)
    };
    assert!(seen(Some(&enabled(60))).contains(" 60 "));
    let idle = seen(Some("mode idle\n"));
    assert!(idle.contains("(vfio-pci): 0 interrupts, 0.0") && idle.contains("mode idle"), "{idle}");
    assert!(seen(Some(&enabled(5))).contains(" 5 "));
    std::fs::remove_file(&driver).unwrap();
    let unbound = seen(None);
    let expected = "0000:00:04.0 is not bound to a VFIO driver any more: no driver has it";
    assert!(unbound.contains(expected) && unbound.contains(" 5 "), "{unbound}");
    std::os::unix::fs::symlink("/sys/bus/pci/drivers/vfio-pci", &driver).unwrap();
    let bound = seen(Some("mode idle\n"));
    assert!(!bound.contains("any more") && bound.contains("mode idle"), "{bound}");
}

trait JoinAfter {
    fn join_after(self, first: impl FnOnce());
}

impl JoinAfter for std::thread::JoinHandle<()> {
    fn join_after(self, first: impl FnOnce()) {
        first();
        self.join().unwrap();
    }
}

#[test]
fn plain_text_has_the_same() {
    let app = app();
    let snapshot = app.meter.last().unwrap();
    insta::assert_snapshot!("plain", columns::plain(&snapshot.counts, snapshot.rate));
}
