//! Reads the debugfs table of the Rust core for a device (`CONTRACT.md`, B-05).

use super::Counted;
use std::path::Path;

/// Reads the table of a device. Returns `None` if debugfs is not mounted or the core has no table.
pub(super) fn read(bdf: &str) -> Option<String> {
    let path = Path::new("/sys/kernel/debug/vfio").join(bdf).join("interrupts");
    std::fs::read_to_string(path).ok()
}

/// Returns the counts of a vector; `None` if the table has no line for it.
pub(super) fn of_vector(table: &str, vector: u32) -> Option<Counted> {
    let number = vector.to_string();
    // The line that begins with `vector` names the columns.
    let line = |first: &str| {
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find(|words| words.first() == Some(&first))
    };
    let (names, words) = (line("vector")?, line(&number)?);
    let count = |name| {
        let column = names.iter().position(|known| *known == name)?;
        words.get(column)?.parse().ok()
    };
    Some(Counted {
        signals: count("signals"),
        masks: count("masks")?,
        unmasks: count("unmasks")?,
        retargets: count("retargets")?,
        loopbacks: count("loopbacks")?,
        failures: count("failures")?,
    })
}

/// Returns the vectors that have a line.
pub(super) fn vectors(table: &str) -> Vec<u32> {
    let firsts = table.lines().filter_map(|line| line.split_whitespace().next());
    firsts.filter_map(|first| first.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
mode msix requests 12 refused 1 enables 1 disables 0 attaches 3 detaches 0
vector   irq state      signals      masks    unmasks  retargets  loopbacks   failures
     1    27 unmasked         7          1          2          3          4          5
    12     - masked           -          1          0          0          0          0
  gone     - -                9          0          0          0          0          0
";

    #[test]
    fn vectors_are_found_by_their_number() {
        let (masks, unmasks, retargets) = (1, 2, 3);
        let (signals, loopbacks, failures) = (Some(7), 4, 5);
        let one = Counted { signals, masks, unmasks, retargets, loopbacks, failures };
        assert_eq!(of_vector(TABLE, 1), Some(one));
        let twelve = Counted { masks: 1, ..Counted::default() };
        assert_eq!(of_vector(TABLE, 12), Some(twelve));
        assert_eq!(of_vector(TABLE, 2), None);
        assert_eq!(vectors(TABLE), [1, 12]);
    }

    #[test]
    fn an_idle_device_has_no_vectors() {
        assert_eq!(of_vector("mode idle\n", 0), None);
        assert!(vectors("mode idle\n").is_empty());
    }

    #[test]
    fn columns_are_found_by_their_name() {
        let table = "\
mode intx requests 1 refused 0
vector irq cpu state signals failures loopbacks retargets unmasks masks later
     0   9   3 unmasked    6        5         4         3       2     1     8
";
        let (masks, unmasks, retargets) = (1, 2, 3);
        let (signals, loopbacks, failures) = (Some(6), 4, 5);
        let expected = Counted { signals, masks, unmasks, retargets, loopbacks, failures };
        assert_eq!(of_vector(table, 0), Some(expected));
    }
}
