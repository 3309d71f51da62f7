//! Compares two cores' tables of answers, line by line.

use crate::answers::{Latitude, Row};
use crate::{Error, flags};

/// The result of a comparison.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Comparison {
    /// Rows that both tables have.
    pub rows: usize,
    /// Rows that differ as the contract allows.
    pub allowed: usize,
    /// All other differences, a sentence each.
    pub wrong: Vec<String>,
}

/// Reads a table and skips lines that are no rows (the messages of a boot). Returns the rows.
pub fn read(text: &str) -> Result<Vec<Row>, Error> {
    let rows: Vec<_> = text.lines().filter_map(row).collect();
    if rows.is_empty() {
        return Err(Error::Table("the table has no rows".into()));
    }
    Ok(rows)
}

fn row(line: &str) -> Option<Row> {
    let (letter, rest) = line.trim_end().split_once(' ')?;
    let latitude =
        Latitude::ALL.iter().find(|(_, known)| letter.len() == 1 && letter.starts_with(*known))?.0;
    let (request, answer) = rest.rsplit_once(" -> ")?;
    Some(Row { latitude, request: request.into(), answer: answer.into() })
}

/// Compares the table of Linux's core with the table of ours. Returns the result.
pub fn compare(linux: &[Row], ours: &[Row]) -> Comparison {
    let mut comparison = Comparison::default();
    if linux.len() != ours.len() {
        let (linux, ours) = (linux.len(), ours.len());
        comparison.wrong.push(format!("Linux has {linux} rows, ours {ours}"));
    }
    for (linux, ours) in linux.iter().zip(ours) {
        if linux.request != ours.request {
            let (linux, ours) = (&linux.request, &ours.request);
            comparison.wrong.push(format!("Linux was asked \"{linux}\", ours \"{ours}\""));
            break;
        }
        comparison.rows += 1;
        if linux.answer == ours.answer {
            continue;
        }
        if allowed(linux, ours) {
            comparison.allowed += 1;
        } else {
            let (request, linux, ours) = (&linux.request, &linux.answer, &ours.answer);
            comparison.wrong.push(format!("{request}: Linux answers {linux}, ours {ours}"));
        }
    }
    comparison
}

fn allowed(linux: &Row, ours: &Row) -> bool {
    match linux.latitude {
        Latitude::Same => false,
        Latitude::Mask => {
            linux.answer == "ENOTTY" && matches!(ours.answer.as_str(), "0" | "EINVAL")
        }
        Latitude::Maskable => {
            let (linux, ours) = (info(&linux.answer), info(&ours.answer));
            linux.is_some() && linux.map(|(bits, n)| (bits | flags::MASKABLE, n)) == ours
        }
    }
}

/// Returns flags and count of a successful GET_IRQ_INFO.
fn info(answer: &str) -> Option<(u32, u32)> {
    let (bits, count) = answer.strip_prefix("0 flags 0x")?.split_once(" count ")?;
    Some((u32::from_str_radix(bits, 16).ok()?, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(linux: &str, ours: &str) -> Comparison {
        compare(&read(linux).expect("rows"), &read(ours).expect("rows"))
    }

    #[test]
    fn only_allowed_differences_pass() {
        for (linux, ours, right) in [
            ("= idle: a -> 0", "= idle: a -> 0", true),
            ("= idle: a -> 0", "= idle: a -> EINVAL", false),
            ("= idle: a -> 0", "= idle: b -> 0", false),
            ("m idle: a -> ENOTTY", "m idle: a -> EINVAL", true),
            ("m idle: a -> EINVAL", "m idle: a -> ENOTTY", false),
            ("m idle: a -> ENOTTY", "m idle: a -> EBUSY", false),
            ("i x -> 0 flags 0x1 count 65", "i x -> 0 flags 0x3 count 65", true),
            ("i x -> 0 flags 0x1 count 65", "i x -> 0 flags 0x3 count 64", false),
            ("i x -> 0 flags 0x1 count 65", "i x -> 0 flags 0x9 count 65", false),
            ("i x -> EINVAL", "i x -> 0 flags 0x3 count 65", false),
            ("noise\n= a -> 0\n= b -> 0", "= a -> 0", false),
        ] {
            let comparison = compared(linux, ours);
            assert_eq!(comparison.wrong.is_empty(), right, "{linux} | {ours}: {comparison:?}");
        }
    }

    #[test]
    fn a_table_without_rows_is_refused() {
        assert!(read("Booting from ROM\n").is_err());
    }
}
