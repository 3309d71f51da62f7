//! Draws counts on the whole terminal.

use super::app::{App, Sort};
use super::columns::{self, COLUMNS, STATE, cells, fit};
use super::meter::Snapshot;
use crate::report;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, RenderDirection, Sparkline, Table};

/// From this number of lines on, there is room for the facts and the diagram of past rates.
const ROOM_FOR_FACTS: u16 = 9;
const ROOM_FOR_PAST: u16 = 13;
const ROOM_FOR_KEYS: u16 = 8;

/// Draws the whole terminal.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    if app.help {
        return help(frame, app);
    }
    let Some(snapshot) = app.meter.last() else { return };
    let area = frame.area();
    let width = usize::from(area.width);
    let [first, facts] = columns::head(&snapshot.counts, snapshot.total, snapshot.rate, width);
    let state = columns::state(snapshot, app.ended.as_deref());
    let facts_lines = u16::from(area.height >= ROOM_FOR_FACTS && !facts.is_empty());
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(state.is_some())),
        Constraint::Length(facts_lines),
        Constraint::Length(if area.height >= ROOM_FOR_PAST { 3 } else { 0 }),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(u16::from(area.height >= ROOM_FOR_KEYS)),
    ]);
    let [top, news, middle, past, table, hidden, keys] = areas.areas(area);
    frame.render_widget(Paragraph::new(first).add_modifier(Modifier::BOLD), top);
    frame.render_widget(Paragraph::new(state.unwrap_or_default()).yellow(), news);
    frame.render_widget(Paragraph::new(facts), middle);
    let line = Sparkline::default().data(app.meter.past()).direction(RenderDirection::RightToLeft);
    frame.render_widget(line, past);
    let hides = vectors(frame, table, app, snapshot);
    let words = hides.words(width);
    let (foot, roomy) = (foot(app, width), area.height >= ROOM_FOR_KEYS);
    // If both share one line, the hidden rows are more important.
    let line = if words.is_empty() && !roomy { foot.clone() } else { Line::raw(words) };
    frame.render_widget(Paragraph::new(line), hidden);
    frame.render_widget(Paragraph::new(foot), keys);
}

/// The parts that are not on the screen.
struct Hides {
    above: usize,
    below: usize,
    idle: usize,
    columns: Vec<&'static str>,
}

impl Hides {
    /// Formats the hidden parts in the longest form that fits.
    fn words(&self, width: usize) -> String {
        let some = |count: usize, words: String| (count > 0).then_some(words);
        let rows = [
            some(self.above, format!("{} above", self.above)),
            some(self.below, format!("{} below", self.below)),
            some(self.idle, format!("{} idle", self.idle)),
        ];
        let rows: Vec<String> = rows.into_iter().flatten().collect();
        let names = self.columns.join(", ");
        let named = some(self.columns.len(), names);
        let counted = some(self.columns.len(), format!("{} columns", self.columns.len()));
        let join = |columns: Option<String>| {
            let all: Vec<String> = rows.iter().cloned().chain(columns).collect();
            all.join(", ")
        };
        let (long, short) = (join(named), join(counted));
        if short.is_empty() {
            return String::new();
        }
        let forms =
            [format!("not shown: {long}"), format!("not shown: {short}"), format!("+{short}")];
        let fits = |form: &&String| form.chars().count() <= width;
        forms.iter().find(fits).unwrap_or(&short).clone()
    }
}

/// Draws the table. Returns the hidden parts.
fn vectors(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) -> Hides {
    let rows = app.rows(snapshot);
    let texts: Vec<_> = rows.iter().map(|row| cells(row)).collect();
    let fit = fit(&texts, area.width.into());
    let line = |text: &dyn Fn(usize, &'static str) -> String| {
        let cells = fit.shown.iter().map(|(number, name, width)| {
            let (text, width) = (text(*number, name), *width);
            Cell::new(if *number == STATE { text } else { format!("{text:>width$}") })
        });
        ratatui::widgets::Row::new(cells.collect::<Vec<_>>())
    };
    // The names take a line.
    let room = usize::from(area.height).saturating_sub(1);
    let first = app.first.min(rows.len().saturating_sub(room));
    let shown = rows.iter().zip(&texts).skip(first).take(room).map(|(vector, texts)| {
        let style = match vector.state.as_deref().unwrap_or_default() {
            state if state.starts_with("masked") => Style::new().yellow(),
            _ if vector.rate.is_some_and(|rate| rate > 0.0) => Style::new().green(),
            _ => Style::new(),
        };
        line(&|number, _| texts.get(number).cloned().unwrap_or_default()).style(style)
    });
    let names = line(&|_, name| name.to_owned()).style(Modifier::REVERSED);
    let widths = fit.shown.iter().map(|(_, _, width)| u16::try_from(*width).unwrap_or(u16::MAX));
    frame.render_widget(Table::new(shown.collect::<Vec<_>>(), widths).header(names), area);
    let counts = &snapshot.counts;
    let all = counts.vectors.len() + usize::from(counts.gone.is_some());
    Hides {
        above: first,
        below: rows.len().saturating_sub(first + room),
        idle: all.saturating_sub(rows.len()),
        columns: fit.hidden,
    }
}

/// Formats the keys, as many as fit.
fn foot(app: &App, width: usize) -> Line<'static> {
    let sort = match app.sort {
        Sort::Vector => "sort (by vector)",
        Sort::Rate => "sort (by rate)",
        Sort::Total => "sort (by total)",
    };
    let idle = if app.hide_idle { "show idle" } else { "hide idle" };
    let keys = [("q", "quit"), ("?", "help"), ("s", sort), ("i", idle), ("↑↓", "scroll")];
    let mut spans = Vec::new();
    let mut taken = 0;
    for (key, what) in keys {
        taken += key.chars().count() + 1 + what.len();
        if taken > width {
            break;
        }
        taken += 2;
        spans.extend([Span::styled(key, Modifier::BOLD), Span::raw(format!(" {what}  "))]);
    }
    Line::from(spans)
}

/// Draws the explanation of the columns.
fn help(frame: &mut Frame<'_>, app: &App) {
    let width = usize::from(frame.area().width);
    let meaning = |column: &columns::Column| {
        let short = if column.short == column.name {
            String::new()
        } else {
            format!(" ({})", column.short)
        };
        let text = report::wrapped(column.meaning, Some(width), 2);
        format!("{}{short}\n{text}", column.name)
    };
    let keys = [
        "q quit, ? help, s sort, i hide or show idle vectors.",
        "↑ ↓ PgUp PgDn Home scroll. Any other key closes this help.",
    ];
    let keys = keys.map(|line| report::wrapped(line, Some(width), 2)).concat();
    let text = COLUMNS.iter().map(meaning).collect::<String>() + "KEYS\n" + &keys;
    let lines = u16::try_from(text.lines().count()).unwrap_or(u16::MAX);
    let [middle, bottom] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    let last = lines.saturating_sub(middle.height);
    let first = u16::try_from(app.first_help).unwrap_or(u16::MAX).min(last);
    frame.render_widget(Paragraph::new(text).scroll((first, 0)), middle);
    let more = if first < last { "↓ more" } else { "any key: back" };
    frame.render_widget(Paragraph::new(more).add_modifier(Modifier::BOLD), bottom);
}
