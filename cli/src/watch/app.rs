//! What the person at the terminal has chosen, and what is shown.

use super::meter::{Meter, Snapshot};
use super::screen::Screen;
use super::source::Source;
use super::view;
use crate::counts::Row;
use crate::error::Error;
use crate::stop::Stop;
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
    /// The columns are explained instead.
    pub help: bool,
    /// Lines of that above those that are shown.
    pub first_help: usize,
    /// Why there is nothing new: the device is gone.
    pub ended: Option<String>,
}

impl App {
    /// A key was pressed; whether to go on.
    pub fn press(&mut self, key: KeyCode) -> bool {
        let most = if self.help { MOST_HELP } else { self.most() };
        let first = if self.help { &mut self.first_help } else { &mut self.first };
        match key {
            KeyCode::Up => *first = first.saturating_sub(1),
            KeyCode::Down => *first = (*first + 1).min(most),
            KeyCode::PageUp => *first = first.saturating_sub(20),
            KeyCode::PageDown => *first = (*first + 20).min(most),
            KeyCode::Home => *first = 0,
            _ if self.help => self.help = false,
            KeyCode::Char('?') => (self.help, self.first_help) = (true, 0),
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Vector => Sort::Rate,
                    Sort::Rate => Sort::Total,
                    Sort::Total => Sort::Vector,
                }
            }
            KeyCode::Char('i') => self.hide_idle = !self.hide_idle,
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

/// Lines that help is longer than nowhere.
const MOST_HELP: usize = 100;
/// How long a signal waits at most.
const TURN: Duration = Duration::from_millis(100);

/// Shows it until the person leaves, or a signal asks for the end.
pub fn run(source: &Source, interval: Duration) -> Result<(), Error> {
    let mut app = App::default();
    let begun = Instant::now();
    // Before the terminal changes: what is wrong is said on a terminal as it was.
    app.meter.next(source.read()?, Duration::ZERO);
    let stop = Stop::prepare()?;
    let mut screen = Screen::take().map_err(|error| lost(&error))?;
    let outcome = turns(&mut screen, &mut app, source, interval, begun, &stop);
    drop(screen);
    stop.obey();
    outcome
}

fn turns(
    screen: &mut Screen,
    app: &mut App,
    source: &Source,
    interval: Duration,
    begun: Instant,
    stop: &Stop,
) -> Result<(), Error> {
    let mut due = Instant::now() + interval;
    while !stop.is_asked() {
        let drawn = screen.terminal().draw(|frame| view::draw(frame, app));
        drawn.map(drop).map_err(|error| lost(&error))?;
        if !keys(app, due, stop)? {
            break;
        }
        if Instant::now() >= due {
            look(app, source, begun);
            due = Instant::now() + interval;
        }
    }
    Ok(())
}

/// Looks again. A device that is gone may come back: a server that is started again.
pub fn look(app: &mut App, source: &Source, begun: Instant) {
    match source.read() {
        Ok(counts) => {
            app.ended = None;
            app.meter.next(counts, begun.elapsed());
        }
        Err(error) => app.ended = Some(error.what),
    }
}

/// Waits for a key or a change of the terminal until something is due. Returns false if the person leaves.
fn keys(app: &mut App, due: Instant, stop: &Stop) -> Result<bool, Error> {
    while Instant::now() < due && !stop.is_asked() {
        let left = due.saturating_duration_since(Instant::now()).min(TURN);
        if !event::poll(left).map_err(|error| lost(&error))? {
            continue;
        }
        let Event::Key(key) = event::read().map_err(|error| lost(&error))? else {
            return Ok(true);
        };
        let interrupt = key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
        let pressed = key.kind == KeyEventKind::Press;
        return Ok(!interrupt && (!pressed || app.press(key.code)));
    }
    Ok(true)
}

fn lost(error: &std::io::Error) -> Error {
    Error::new(format!("the terminal cannot be used: {error}"), "--once prints instead")
}
