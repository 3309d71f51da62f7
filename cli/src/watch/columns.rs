//! The columns of a table of vectors: their meanings, and which of them fit.

use super::meter::Snapshot;
use crate::counts::{Counts, Row};
use crate::report::{self, or_none};

/// A column.
pub struct Column {
    /// The name of the column.
    pub name: &'static str,
    /// The short name, for a narrow table.
    pub short: &'static str,
    /// The meaning of the column.
    pub meaning: &'static str,
    /// The order in which columns are hidden if the table is too wide: the highest rank first.
    rank: u8,
}

const fn column(
    name: &'static str,
    short: &'static str,
    rank: u8,
    meaning: &'static str,
) -> Column {
    Column { name, short, meaning, rank }
}

/// The number of columns.
const COUNT: usize = 9;

/// All columns, from left to right.
pub const COLUMNS: [Column; COUNT] = [
    column(
        "VECTOR",
        "VEC",
        0,
        "The number of the vector. `gone` sums up vectors that are not there any more.",
    ),
    column("IRQ", "IRQ", 8, "The host's interrupt behind it, as in /proc/interrupts."),
    column(
        "STATE",
        "STATE",
        3,
        "unmasked: interrupts are signalled. masked: they are held. pending: one is held now. empty: no eventfd is attached.",
    ),
    column("TOTAL", "TOTAL", 1, "Interrupts so far."),
    column("RATE/S", "RATE/S", 2, "Interrupts per second since the last look."),
    column("MASKS", "MASKS", 5, "How often the vector was masked."),
    column("RE-TARGETS", "RETARG", 6, "How often its eventfd was replaced."),
    column(
        "LOOPBACKS",
        "LOOPS",
        7,
        "How often a request signalled it, as a test does, and no interrupt.",
    ),
    column("FAILURES", "FAILS", 4, "Requests that were refused because of it."),
];

/// The only column of words.
pub const STATE: usize = 2;

/// Formats a row, column by column.
pub fn cells(row: &Row) -> [String; COUNT] {
    [
        row.vector.map_or_else(|| "gone".to_owned(), |vector| vector.to_string()),
        or_none(row.irq),
        or_none(row.state.as_ref()),
        or_none(row.signals),
        or_none(row.rate.map(|rate| format!("{rate:.1}"))),
        or_none(row.masks),
        or_none(row.retargets),
        or_none(row.loopbacks),
        or_none(row.failures),
    ]
}

/// The columns that fit.
pub struct Fit {
    /// Index, name and width of each shown column.
    pub shown: Vec<(usize, &'static str, usize)>,
    /// Names of the hidden columns.
    pub hidden: Vec<&'static str>,
}

/// Chooses columns for a table of these rows, so that no cell is cut: first with long names, then
/// with short names, then without the columns of highest rank.
pub fn fit(rows: &[[String; COUNT]], width: usize) -> Fit {
    let widest = |number: usize| {
        let cells = rows.iter().filter_map(|row| row.get(number));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let content: Vec<usize> = (0..COUNT).map(widest).collect();
    let numbered = || COLUMNS.iter().zip(&content).enumerate();
    let all = |most: u8, short: bool| -> Vec<(usize, &'static str, usize)> {
        let kept = numbered().filter(|(_, (column, _))| column.rank <= most);
        let named = kept.map(|(number, (column, content))| {
            let name = if short { column.short } else { column.name };
            (number, name, name.len().max(*content))
        });
        named.collect()
    };
    let fits = |shown: &Vec<(usize, &str, usize)>| {
        let cells: usize = shown.iter().map(|(_, _, width)| width).sum();
        cells + shown.len().saturating_sub(1) <= width
    };
    let most = COLUMNS.iter().map(|column| column.rank).max().unwrap_or(0);
    let tries = std::iter::once((most, false)).chain((0..=most).rev().map(|most| (most, true)));
    let shown = tries.map(|(most, short)| all(most, short)).find(fits);
    let shown = shown.unwrap_or_else(|| all(0, true));
    let is_hidden = |number: &usize| !shown.iter().any(|(shown, _, _)| shown == number);
    let hidden = (0..COUNT).filter(is_hidden);
    let hidden = hidden.filter_map(|number| Some(COLUMNS.get(number)?.name)).collect();
    Fit { shown, hidden }
}

/// Formats a line about the device, the longest that fits, and a line of facts and totals.
pub fn head(counts: &Counts, total: u64, rate: Option<f64>, width: usize) -> [String; 2] {
    let Counts { device, driver, .. } = counts;
    let (long, short) = match rate {
        Some(rate) => (format!(", {rate:.1} per second"), format!(", {rate:.1}/s")),
        None => (String::new(), String::new()),
    };
    let brief = device.split(' ').next().unwrap_or_default();
    let lines = [
        format!("{device} ({driver}): {total} interrupts{long}"),
        format!("{brief} ({driver}): {total} interrupts{short}"),
        format!("{brief}: {total}{short}"),
    ];
    let line = lines.into_iter().find(|line| line.chars().count() <= width);
    let facts =
        counts.facts.iter().map(|(name, fact)| format!("{} {fact}", name.replace('_', " ")));
    let totals = counts.totals.iter().map(|(name, count)| format!("{name} {count}"));
    let known: Vec<String> = facts.chain(totals).collect();
    [line.unwrap_or_else(|| format!("{total}{short}")), known.join(" · ")]
}

/// Formats counts as plain text.
pub fn plain(counts: &Counts, rate: Option<f64>) -> String {
    let rows = counts.vectors.iter().chain(&counts.gone);
    let name = |(number, column): (usize, &Column)| match number {
        STATE => column.name.to_owned(),
        _ => format!(">{}", column.name),
    };
    let names: Vec<String> = COLUMNS.iter().enumerate().map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let table = report::table(&names, rows.map(|row| cells(row).to_vec()));
    let head = head(counts, counts.total(), rate, usize::MAX);
    let client = client(counts).map(str::to_owned);
    let head = head.into_iter().chain(client).filter(|line| !line.is_empty());
    head.map(|line| line + "\n").collect::<String>() + &table
}

/// Returns a remark if a served device has no client.
pub fn client(counts: &Counts) -> Option<&'static str> {
    match counts.client {
        Some(false) if counts.vectors.is_empty() => Some("no client yet"),
        Some(false) => Some("no client now"),
        _ => None,
    }
}

/// Returns why nothing happens: the server has ended, or there is no client.
pub fn state(snapshot: &Snapshot, ended: Option<&str>) -> Option<String> {
    match ended {
        Some(ended) => Some(ended.to_owned()),
        None => client(&snapshot.counts).map(str::to_owned),
    }
}
