//! The model of the terminal view: the user's choices, and the counts.

use super::meter::{Meter, Snapshot};
use super::screen::Screen;
use super::source::Source;
use super::view;
use crate::counts::Row;
use crate::error::Error;
use crate::stop::Stop;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::time::{Duration, Instant};

/// The sort key of vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sort {
    /// Their number.
    #[default]
    Vector,
    /// Interrupts per second, most first.
    Rate,
    /// All interrupts, most first.
    Total,
}

/// The state of the view.
#[derive(Default)]
pub struct App {
    /// Counts and rates.
    pub meter: Meter,
    /// The sort key.
    pub sort: Sort,
    /// Whether vectors with rate 0 are hidden.
    pub hide_idle: bool,
    /// The number of rows above the first row on the screen.
    pub first: usize,
    /// Whether the explanation of columns is shown.
    pub help: bool,
    /// The number of its lines above the first line on the screen.
    pub first_help: usize,
    /// Why there are no new counts: the device is gone.
    pub ended: Option<String>,
}

impl App {
    /// Handles a key. Returns false if the user quits.
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

    /// Returns the number of rows.
    fn most(&self) -> usize {
        self.meter.last().map_or(0, |snapshot| snapshot.counts.vectors.len())
    }

    /// Returns the rows to show, in order.
    pub fn rows<'s>(&self, snapshot: &'s Snapshot) -> Vec<&'s Row> {
        let rate = |row: &Row| row.rate.unwrap_or(0.0);
        let all = snapshot.counts.vectors.iter();
        let mut rows: Vec<_> = all.filter(|row| !self.hide_idle || rate(row) > 0.0).collect();
        match self.sort {
            Sort::Vector => {}
            Sort::Rate => rows.sort_by(|a, b| rate(b).total_cmp(&rate(a))),
            Sort::Total => rows.sort_by_key(|row| std::cmp::Reverse(row.signals)),
        }
        // The sum of gone vectors is no vector, and comes last.
        rows.extend(snapshot.counts.gone.iter().filter(|_| !self.hide_idle));
        rows
    }
}

/// An upper bound of the lines of help.
const MOST_HELP: usize = 100;
/// The longest delay of a signal.
const TURN: Duration = Duration::from_millis(100);

/// Shows the counts until the user quits, or a signal asks for the end.
pub fn run(source: &Source, interval: Duration) -> Result<(), Error> {
    let mut app = App::default();
    let begun = Instant::now();
    // Read before the terminal changes, so that an error is printed on a normal terminal.
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

/// Reads the counts again. A device that is gone may come back, if its server is started again.
pub fn look(app: &mut App, source: &Source, begun: Instant) {
    match source.read() {
        Ok(counts) => {
            app.ended = None;
            app.meter.next(counts, begun.elapsed());
        }
        Err(error) => app.ended = Some(error.what),
    }
}

/// Waits for a key or a change of the terminal until `due`. Returns false if the user quits.
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
