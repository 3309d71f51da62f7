//! The table at the end.

use super::record::Run;
use super::{Counted, Document, Method};
use crate::report::{many, table};

/// Formats the result of the demo.
pub fn tell(document: &Document<'_>) -> String {
    let columns = [
        "METHOD",
        ">QUEUES",
        ">RAISED",
        ">DELIVERED",
        ">LOST",
        ">STALLS",
        ">LONGEST GAP",
        ">LONGEST ADD",
    ];
    let rows = document.runs.iter().map(|run| {
        vec![
            run.method.name().to_owned(),
            run.queues.to_string(),
            run.raised.to_string(),
            run.delivered.to_string(),
            run.lost.to_string(),
            run.stalls.to_string(),
            time(run.longest_gap_us),
            time(run.longest_add_us),
        ]
    });
    let table = table(&columns, rows);
    let verdicts: String = document.runs.iter().map(|run| verdict(run)).collect();
    let picture = document
        .picture
        .map_or(String::new(), |picture| format!("\nThe picture: {}\n", picture.display()));
    let counted = match document.counted {
        Counted::ByDevice => "",
        Counted::ByCompletion => OWED,
    };
    format!(
        "\nInterrupts of {}, each queue with a vector of its own:\n\n{table}\n{counted}{EXPLAINED}\n{verdicts}{picture}",
        document.device
    )
}

/// Explains the count of a device that does not count.
const OWED: &str = "\
RAISED: one for each completion, since the device counts none itself.
LOST: interrupts that did not reach their eventfd within a second.
";

/// Explains columns.
const EXPLAINED: &str = "\
STALLS: completions whose interrupt did not come for a second; a driver without a timeout waits forever.
LONGEST GAP: the longest time from one completion of a queue to its next; a second and more is a stall.
LONGEST ADD: the longest time that it took to add a queue.
";

fn verdict(run: &Run) -> String {
    let how = match run.method {
        Method::ReleaseAll => "all vectors released and enabled again for each queue",
        Method::Dynamic => "each vector added by itself",
    };
    let lost = match run.lost {
        0 => "nothing was lost".to_owned(),
        lost => format!("{} lost", many(lost, "interrupt")),
    };
    format!("{}: {how}: {lost}.\n", run.method.name())
}

/// Formats microseconds in a suitable unit.
fn time(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_a_unit_that_fits() {
        let said = [999, 1_000, 999_999, 1_004_999].map(super::time);
        assert_eq!(said, ["999 µs", "1.0 ms", "999.9 ms", "1.00 s"]);
    }
}
