//! The model of the terminal view: the user's choices, and the counts.

use super::meter::{Meter, Snapshot};
use crate::counts::Row;
use ratatui::crossterm::event::KeyCode;

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
