//! Prints results: tables for people, JSON for programs.

use crate::error::Error;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The form of the results.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// True for JSON.
    pub json: bool,
}

impl Out {
    /// Prints one document, or its text.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn one(
        self,
        document: &impl Serialize,
        words: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if !self.json {
            return print(&words());
        }
        let text = serde_json::to_string_pretty(&Dated::new(document)).map_err(no_json)?;
        print(&(text + "\n"))
    }

    /// Prints one of many documents: a line of JSON, or text.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn line(
        self,
        document: &impl Serialize,
        words: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if !self.json {
            return print(&words());
        }
        print(&line(document)?)
    }
}

/// The version of the JSON documents. It is incremented when readers have to change.
pub const SCHEMA: u32 = 1;

/// A document with the fields that all documents have.
#[derive(Serialize)]
struct Dated<'d, D: Serialize> {
    schema: u32,
    time: String,
    #[serde(flatten)]
    document: &'d D,
}

impl<'d, D: Serialize> Dated<'d, D> {
    fn new(document: &'d D) -> Self {
        Self { schema: SCHEMA, time: now(), document }
    }
}

/// Formats a document as one line of JSON.
///
/// # Errors
///
/// If it cannot be expressed in JSON.
pub fn line(document: &impl Serialize) -> Result<String, Error> {
    Ok(serde_json::to_string(&Dated::new(document)).map_err(no_json)? + "\n")
}

fn no_json(error: serde_json::Error) -> Error {
    Error::plain(format!("this cannot be written as JSON: {error}"))
}

/// Returns the time of the system's clock in UTC, in the format of RFC 3339.
pub fn now() -> String {
    let mut text = String::new();
    // A write to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Prints to standard output, all at once.
///
/// # Errors
///
/// [`Error::unread`] if the reader is gone, otherwise the system's error.
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Error::unread(),
        io::ErrorKind::StorageFull => Error::new(
            format!("cannot write to standard output: {error}"),
            "make room there, or have it written elsewhere",
        ),
        _ => Error::plain(format!("cannot write to standard output: {error}")),
    })
}

/// Formats a table without lines. Aligns columns whose name begins with `>` to the right.
pub fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|name| name.trim_start_matches('>')));
    rows.into_iter().for_each(|row| _ = table.add_row(row));
    for (number, name) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(number) {
            let right = name.starts_with('>');
            column.set_cell_alignment(if right {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            });
            column.set_padding((0, 2));
        }
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// Returns the columns of the terminal on standard output; `None` without a terminal, or if its size is
/// unknown.
pub fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_col > 0).then(|| size.ws_col.into())
}

/// Breaks a text into lines of at most `width` columns, each indented. A word that is longer than a line
/// gets a line of its own.
pub fn wrapped(text: &str, width: Option<usize>, indent: usize) -> String {
    let width = width.unwrap_or(usize::MAX);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(" ".repeat(indent) + word),
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Returns a value, or `?` if it is unknown.
pub fn or_unknown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

/// Returns a value, or `-` if there is none.
pub fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Returns `yes`, `no` or `?`.
pub fn yes(value: Option<bool>) -> String {
    or_unknown(value.map(|yes| if yes { "yes" } else { "no" }))
}

/// Returns a count with its noun: `1 vector`, `2 vectors`.
pub fn many(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Quotes a word for a shell.
pub fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:+,=@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_are_as_long_as_they_may_be() {
        assert_eq!(wrapped("one two three", Some(9), 2), "  one two\n  three\n");
        assert_eq!(wrapped("one two", Some(3), 2), "  one\n  two\n");
        assert_eq!(wrapped("one two", None, 0), "one two\n");
    }
}
