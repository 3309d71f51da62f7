//! Counts as people see them: a table, plain or on the whole terminal.

use super::app::{App, Sort};
use super::meter::Snapshot;
use crate::counts::{Counts, Row};
use crate::report::{self, or_none};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, RenderDirection, Sparkline, Table};

const COLUMNS: [&str; 9] =
    ["VECTOR", "IRQ", "STATE", "TOTAL", "RATE/S", "MASKS", "RE-TARGETS", "LOOPBACKS", "FAILURES"];
const WIDTHS: [u16; 9] = [6, 6, 15, 12, 10, 8, 10, 9, 8];
/// The only column of words.
const STATE: usize = 2;

fn cells(row: &Row) -> [String; 9] {
    [
        row.vector.map_or_else(|| "gone".to_owned(), |vector| vector.to_string()),
        or_none(row.irq),
        if row.state.is_empty() { "-".to_owned() } else { row.state.clone() },
        or_none(row.signals),
        or_none(row.rate.map(|rate| format!("{rate:.1}"))),
        or_none(row.masks),
        or_none(row.retargets),
        or_none(row.loopbacks),
        or_none(row.failures),
    ]
}

/// One line about the device, and one of what else is known.
fn head(counts: &Counts, total: u64, rate: Option<f64>) -> [String; 2] {
    let rate = rate.map_or(String::new(), |rate| format!(", {rate:.1} per second"));
    let facts = counts.facts.iter().map(|(name, fact)| format!("{name} {fact}"));
    let totals = counts.totals.iter().map(|(name, count)| format!("{name} {count}"));
    let known: Vec<String> = facts.chain(totals).collect();
    [format!("{} ({}): {total} interrupts{rate}", counts.device, counts.driver), known.join(" · ")]
}

/// Counts as plain text.
pub fn plain(counts: &Counts, rate: Option<f64>) -> String {
    let rows = counts.vectors.iter().chain(&counts.gone);
    let mut columns = COLUMNS.map(|name| format!(">{name}"));
    if let Some(state) = columns.get_mut(STATE) {
        *state = state.trim_start_matches('>').to_owned();
    }
    let columns = columns.each_ref().map(String::as_str);
    let table = report::table(&columns, rows.map(|row| cells(row).to_vec()));
    let head = head(counts, counts.total(), rate);
    let head: Vec<&String> = head.iter().filter(|line| !line.is_empty()).collect();
    head.iter().map(|line| format!("{line}\n")).collect::<String>() + &table
}

/// Draws the whole terminal.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let Some(snapshot) = app.meter.last() else { return };
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(3),
        Constraint::Fill(1),
        Constraint::Length(1),
    ]);
    let [top, past, middle, bottom] = areas.areas(frame.area());
    let [first, second] = head(&snapshot.counts, snapshot.total, snapshot.rate);
    let first = Line::styled(first, Modifier::BOLD);
    frame.render_widget(Paragraph::new(vec![first, Line::raw(second)]), top);
    let line = Sparkline::default().data(app.meter.past()).direction(RenderDirection::RightToLeft);
    frame.render_widget(line, past);
    vectors(frame, middle, app, snapshot);
    frame.render_widget(Paragraph::new(foot(app)), bottom);
}

fn vectors(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    // Columns that do not fit are left out: a number must not be cut.
    let mut end = 0;
    let fits = move |width: &&u16| {
        end += **width + 1;
        end <= area.width.saturating_add(1)
    };
    let widths: Vec<u16> = WIDTHS.iter().take_while(fits).copied().collect();
    let row = |texts: [String; 9]| {
        let cells = texts.into_iter().zip(&widths).enumerate().map(|(number, (text, width))| {
            let width = usize::from(*width);
            Cell::new(if number == STATE { text } else { format!("{text:>width$}") })
        });
        ratatui::widgets::Row::new(cells)
    };
    let shown = app.rows(snapshot);
    // The names take a line.
    let room = usize::from(area.height).saturating_sub(1);
    let first = app.first.min(shown.len().saturating_sub(room));
    let rows = shown.into_iter().skip(first).take(room).map(|vector| {
        let style = match vector.state.as_str() {
            state if state.starts_with("masked") => Style::new().yellow(),
            _ if vector.rate.is_some_and(|rate| rate > 0.0) => Style::new().green(),
            _ => Style::new(),
        };
        row(cells(vector)).style(style)
    });
    let names = row(COLUMNS.map(str::to_owned)).style(Modifier::REVERSED);
    frame.render_widget(Table::new(rows, widths.iter().copied()).header(names), area);
}

fn foot(app: &App) -> Line<'static> {
    let key = |key: &'static str| Span::styled(key, Modifier::BOLD);
    let sort = match app.sort {
        Sort::Vector => " sort (by vector)  ",
        Sort::Rate => " sort (by rate)  ",
        Sort::Total => " sort (by total)  ",
    };
    let idle = if app.hide_idle { " show idle  " } else { " hide idle  " };
    Line::from(vec![
        key("q"),
        Span::raw(" quit  "),
        key("s"),
        Span::raw(sort),
        key("i"),
        Span::raw(idle),
        key("↑↓"),
        Span::raw(" scroll"),
    ])
}
