//! What the person at the terminal has chosen, and the terminal.

use super::meter::{Meter, Snapshot};
use super::source::Source;
use super::view;
use crate::counts::Row;
use crate::error::Error;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::time::{Duration, Instant};

/// By what vectors are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sort {
    /// Their number.
    #[default]
    Vector,
    /// Interrupts per second, most first.
    Rate,
    /// Interrupts in all, most first.
    Total,
}

/// What is shown.
#[derive(Default)]
pub struct App {
    /// Counts and rates.
    pub meter: Meter,
    /// By what rows are sorted.
    pub sort: Sort,
    /// Vectors whose rate is 0 are left out.
    pub hide_idle: bool,
    /// Rows above those that are shown.
    pub first: usize,
}

impl App {
    /// A key was pressed; whether to go on.
    pub fn press(&mut self, key: KeyCode) -> bool {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Vector => Sort::Rate,
                    Sort::Rate => Sort::Total,
                    Sort::Total => Sort::Vector,
                }
            }
            KeyCode::Char('i') => self.hide_idle = !self.hide_idle,
            KeyCode::Up => self.first = self.first.saturating_sub(1),
            KeyCode::Down => self.first = (self.first + 1).min(self.most()),
            KeyCode::PageUp => self.first = self.first.saturating_sub(20),
            KeyCode::PageDown => self.first = (self.first + 20).min(self.most()),
            KeyCode::Home => self.first = 0,
            _ => {}
        }
        true
    }

    /// Rows that there are.
    fn most(&self) -> usize {
        self.meter.last().map_or(0, |snapshot| snapshot.counts.vectors.len())
    }

    /// The rows to show, in order.
    pub fn rows<'s>(&self, snapshot: &'s Snapshot) -> Vec<&'s Row> {
        let rate = |row: &Row| row.rate.unwrap_or(0.0);
        let all = snapshot.counts.vectors.iter();
        let mut rows: Vec<_> = all.filter(|row| !self.hide_idle || rate(row) > 0.0).collect();
        match self.sort {
            Sort::Vector => {}
            Sort::Rate => rows.sort_by(|a, b| rate(b).total_cmp(&rate(a))),
            Sort::Total => rows.sort_by_key(|row| std::cmp::Reverse(row.signals)),
        }
        // What is gone is no vector, and comes last.
        rows.extend(snapshot.counts.gone.iter().filter(|_| !self.hide_idle));
        rows
    }
}

/// Shows it until the person leaves.
pub fn run(source: &Source, interval: Duration) -> Result<(), Error> {
    let mut app = App::default();
    let begun = Instant::now();
    // Before the terminal changes: what is wrong is said on a terminal as it was.
    app.meter.next(source.read()?, Duration::ZERO);
    let mut terminal = ratatui::try_init().map_err(|error| lost(&error))?;
    let outcome = turns(&mut terminal, &mut app, source, interval, begun);
    ratatui::restore();
    outcome
}

fn turns(
    terminal: &mut ratatui::DefaultTerminal,
    app: &mut App,
    source: &Source,
    interval: Duration,
    begun: Instant,
) -> Result<(), Error> {
    let mut due = Instant::now() + interval;
    loop {
        terminal.draw(|frame| view::draw(frame, app)).map_err(|error| lost(&error))?;
        let left = due.saturating_duration_since(Instant::now());
        if event::poll(left).map_err(|error| lost(&error))? {
            let Event::Key(key) = event::read().map_err(|error| lost(&error))? else { continue };
            let interrupt =
                key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
            let pressed = key.kind == KeyEventKind::Press;
            if interrupt || pressed && !app.press(key.code) {
                return Ok(());
            }
            continue;
        }
        app.meter.next(source.read()?, begun.elapsed());
        due = Instant::now() + interval;
    }
}

fn lost(error: &std::io::Error) -> Error {
    Error::new(format!("the terminal cannot be used: {error}"), "--once prints instead")
}
