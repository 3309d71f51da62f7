//! Shows the progress of a run on standard error.

use super::Method;
use super::record::Run;
use crate::report::{Out, many};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write, stderr};

/// The progress of one run.
pub struct Progress {
    method: Method,
    queues: u16,
    way: Way,
}

/// The form of the progress.
enum Way {
    /// One line that is rewritten.
    Bar(ProgressBar),
    /// A few lines, for a console that cannot rewrite a line, or whose width is unknown (a serial
    /// line). A changing line would flood such a console.
    Lines,
    /// No progress is shown.
    Silent,
}

/// The numbers that are shown.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Queues so far.
    pub queues: u16,
    /// Interrupts that the device raised: one for each completion.
    pub raised: u64,
    /// Completions for which no interrupt came for a second.
    pub stalls: u64,
}

impl Progress {
    /// Starts the progress of one run.
    pub fn start(out: Out, method: Method, queues: u16) -> Self {
        let way = match (out.json || !stderr().is_terminal(), can_go_back()) {
            (true, _) => Way::Silent,
            (false, false) => Way::Lines,
            (false, true) => Way::Bar(bar(method, queues)),
        };
        Self { method, queues, way }
    }

    /// Shows that a queue was added.
    pub fn added(&self, seen: Seen) {
        match &self.way {
            Way::Bar(bar) => bar.set_position(seen.queues.into()),
            // Prints at each quarter. The last line is printed at the end, when all is counted.
            Way::Lines
                if seen.queues < self.queues
                    && seen.queues.is_multiple_of(self.queues.div_ceil(4)) =>
            {
                self.line(seen);
            }
            Way::Lines | Way::Silent => {}
        }
    }

    /// Updates the numbers.
    pub fn look(&self, seen: Seen) {
        if let Way::Bar(bar) = &self.way {
            bar.set_message(words(seen));
        }
    }

    /// Ends the line of a run with the numbers of the table, or without them if the run failed.
    pub fn end(&self, run: Option<&Run>) {
        let seen =
            run.map(|run| Seen { queues: run.queues, raised: run.raised, stalls: run.stalls });
        match (&self.way, seen) {
            (Way::Bar(bar), seen) => {
                if let Some(seen) = seen {
                    bar.set_position(seen.queues.into());
                    bar.set_message(words(seen));
                }
                // The last line stays, full or not, and the following text begins a new line.
                bar.abandon();
                let _ = stderr().write_all(b"\n");
            }
            (Way::Lines, Some(seen)) => self.line(seen),
            (Way::Lines, None) | (Way::Silent, _) => {}
        }
    }

    fn line(&self, seen: Seen) {
        let (method, there, all) = (self.method.name(), seen.queues, self.queues);
        let line = format!("{method}: {there} of {all} queues, {}\n", words(seen));
        // If standard error is closed, the text is lost.
        let _ = stderr().write_all(line.as_bytes());
    }
}

fn words(seen: Seen) -> String {
    format!("{} raised, {}", many(seen.raised, "interrupt"), many(seen.stalls, "stall"))
}

/// The least columns for the changing line. A console of unknown width reports 0.
const NARROWEST: u16 = 60;

/// Returns true if standard error is a terminal whose lines can be rewritten.
fn can_go_back() -> bool {
    let known = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    let sized = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
    known && sized.is_ok_and(|size| size.ws_col >= NARROWEST && size.ws_row > 0)
}

fn bar(method: Method, queues: u16) -> ProgressBar {
    let bar = ProgressBar::new(queues.into()).with_prefix(method.name());
    // Text that does not fit is cut off, because a wrapped line cannot be rewritten.
    let style =
        ProgressStyle::with_template("{prefix:11} {pos:>4}/{len} queues {bar:20} {wide_msg}");
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}
