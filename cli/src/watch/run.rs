//! The loop of the terminal view: keys, counts, and drawing.

use super::app::App;
use super::screen::Screen;
use super::source::Source;
use super::view;
use crate::error::Error;
use crate::stop::Stop;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::time::{Duration, Instant};

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
