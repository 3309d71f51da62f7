//! Parses the Rust core's counts of a device, from its file in debugfs.

use super::System;
use crate::counts::{Counts, Row};
use crate::pci::Bdf;
use std::io;

/// Returns the path of a device's counts.
pub fn file(bdf: Bdf) -> String {
    format!("sys/kernel/debug/vfio/{bdf}/interrupts")
}

/// Reads a device's counts.
///
/// # Errors
///
/// If the file does not exist, or may not be read.
pub fn read(system: &System, bdf: Bdf) -> io::Result<Counts> {
    Ok(parse(&std::fs::read_to_string(system.path(file(bdf)))?))
}

/// Parses pairs of a name and a value, a line with the names of columns, and a line for each
/// vector. While no index is active, the file has one pair: `mode idle`. Returns the counts.
fn parse(text: &str) -> Counts {
    let mut counts = Counts::default();
    let mut names: Vec<&str> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first() {
            None => {}
            Some(&"vector") => names = words,
            Some(_) if names.is_empty() => {
                for pair in words.chunks_exact(2) {
                    let &[name, value] = pair else { continue };
                    // Numbers are counts.
                    match value.parse() {
                        Ok(number) => _ = counts.totals.insert(name.to_owned(), number),
                        Err(_) => _ = counts.facts.insert(name.to_owned(), value.into()),
                    }
                }
            }
            Some(first) => {
                let row = row(&names, &words);
                if *first == "gone" {
                    counts.gone = Some(row);
                } else {
                    counts.vectors.push(row);
                }
            }
        }
    }
    counts
}

fn row(names: &[&str], words: &[&str]) -> Row {
    let word = |name: &str| {
        let place = names.iter().position(|known| *known == name)?;
        words.get(place).copied()
    };
    let number = |name: &str| word(name)?.parse().ok();
    Row {
        vector: number("vector").and_then(|number| u32::try_from(number).ok()),
        irq: number("irq").and_then(|number| u32::try_from(number).ok()),
        state: match (word("state"), number("signals")) {
            (Some("masked"), None) => Some("masked, empty".to_owned()),
            (Some(_), None) => Some("empty".to_owned()),
            (state, _) => state.filter(|state| *state != "-").map(str::to_owned),
        },
        signals: number("signals"),
        rate: None,
        masks: number("masks"),
        unmasks: number("unmasks"),
        retargets: number("retargets"),
        loopbacks: number("loopbacks"),
        failures: number("failures"),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::counts::Fact;

    #[test]
    fn an_active_index_has_totals_and_vectors() {
        let text = "mode msix requests 9 refused 1 enables 1 disables 0 attaches 3 detaches 1
vector   irq state      signals      masks    unmasks  retargets  loopbacks   failures
     0    27 unmasked        12          1          1          2          3          0
     5     - masked           -          1          0          0          0          0
  gone     - -                7          0          0          0          0          1
";
        let counts = parse(text);
        assert_eq!(counts.facts, [("mode".to_owned(), Fact::from("msix"))].into());
        assert_eq!((counts.totals["requests"], counts.totals["refused"]), (9, 1));
        let [first, second] = &counts.vectors[..] else { panic!("{counts:?}") };
        assert_eq!((first.vector, first.irq, first.signals), (Some(0), Some(27), Some(12)));
        assert_eq!((first.retargets, first.loopbacks), (Some(2), Some(3)));
        assert_eq!((second.vector, second.irq, second.signals), (Some(5), None, None));
        assert_eq!(first.state.as_deref(), Some("unmasked"));
        assert_eq!(second.state.as_deref(), Some("masked, empty"));
        assert_eq!(counts.gone.as_ref().and_then(|gone| gone.failures), Some(1));
        assert_eq!(counts.total(), 19);
    }

    #[test]
    fn an_idle_device_has_neither() {
        let counts = parse("mode idle\n");
        assert_eq!(counts.facts["mode"], Fact::from("idle"));
        assert!(counts.vectors.is_empty() && counts.totals.is_empty() && counts.gone.is_none());
        assert!(parse("").vectors.is_empty());
    }

    /// Later cores may have more columns, in another order, and more pairs.
    #[test]
    fn columns_are_found_by_their_names() {
        let text = "mode intx since boot requests 2
vector state coalesced signals affinity irq
     0 masked 4 9 0-3 11
";
        let counts = parse(text);
        assert_eq!((&counts.facts["since"], counts.totals["requests"]), (&Fact::from("boot"), 2));
        let [row] = &counts.vectors[..] else { panic!("{counts:?}") };
        assert_eq!((row.vector, row.irq, row.signals), (Some(0), Some(11), Some(9)));
        assert_eq!((row.state.as_deref(), row.masks), (Some("masked"), None));
    }
}
