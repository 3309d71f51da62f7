//! What is on the terminal.

use super::app::App;
use super::view;
use crate::counts::{Counts, Row};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use std::time::Duration;

/// Four vectors after so many seconds: the first busy, the second busier, the third masked, the last
/// idle.
fn counts(seconds: u64) -> Counts {
    let row = |(vector, signals): (u32, u64)| Row {
        vector: Some(vector),
        irq: Some(27 + vector),
        state: if vector == 2 { "masked" } else { "open" }.to_owned(),
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
        driver: "vfio-pci-rs".to_owned(),
        facts: [("mode".to_owned(), "msix".to_owned())].into(),
        totals: [("requests".to_owned(), 12), ("refused".to_owned(), 1)].into(),
        vectors: (0..).zip(signals).map(row).collect(),
        gone: Some(Row { signals: Some(30), ..Row::default() }),
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
    assert!(!screen(&app, 96, 9).contains(" 29 "));
    (0..2).for_each(|_| assert!(app.press(KeyCode::Down)));
    assert!(screen(&app, 96, 9).contains(" 29 "));
    app.press(KeyCode::PageDown);
    assert!(screen(&app, 96, 9).contains("gone"));
    app.press(KeyCode::Home);
    assert!(screen(&app, 96, 9).contains(" 27 "));
    // A column that does not fit is left out, and no number is cut.
    let narrow = screen(&app, 60, 12);
    assert!(narrow.contains(" 5000 ") && narrow.contains("RATE/S"), "{narrow}");
    assert!(!narrow.contains("MASKS"), "{narrow}");
    // No terminal is too small.
    for (width, height) in [(1, 1), (3, 2), (20, 5), (300, 80)] {
        screen(&app, width, height);
    }
    screen(&App::default(), 80, 20);
}

#[test]
fn plain_text_has_the_same() {
    let app = app();
    let snapshot = app.meter.last().unwrap();
    insta::assert_snapshot!("plain", view::plain(&snapshot.counts, snapshot.rate));
}
