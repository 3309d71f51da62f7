//! The terminal while this program draws on it.

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use std::io::{self, Stdout, stdout};
use std::mem::ManuallyDrop;

/// The terminal in raw mode, on its alternate screen. The drop restores it.
///
/// If standard error is gone, ratatui's own functions print their error with a macro that panics.
/// That happens when a terminal is closed. The drop of ratatui's `Terminal` does the same, so the
/// `Terminal` is never dropped.
pub struct Screen(ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// If it cannot be used; it is then restored.
    pub fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let taken = execute!(stdout(), EnterAlternateScreen)
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        if taken.is_err() {
            restore();
        }
        Ok(Self(ManuallyDrop::new(taken?)))
    }

    /// Returns the terminal.
    pub fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.0
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal. Tries each step even if an earlier one failed: a terminal that is gone
/// needs none.
fn restore() {
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
}
