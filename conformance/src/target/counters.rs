//! The table that `vfio-pci-rs` shows of a device in debugfs (`CONTRACT.md`, B-05).

use super::Counted;
use std::path::Path;

/// The table of a device; `None` where debugfs is not mounted or the driver shows none.
pub(super) fn read(bdf: &str) -> Option<String> {
    let path = Path::new("/sys/kernel/debug/vfio-pci-rs").join(bdf);
    std::fs::read_to_string(path).ok()
}

/// Whether its first line says that a detach frees.
pub(super) fn detach_frees(table: &str) -> bool {
    let first = table.lines().next().unwrap_or_default();
    first.ends_with("detach free")
}

/// The line of a vector: its number, its interrupt, its state, and what was counted.
pub(super) fn of_vector(table: &str, vector: u32) -> Option<Counted> {
    let number = vector.to_string();
    let mut lines = table.lines().map(str::split_whitespace);
    let mut line = lines.find_map(|mut line| (line.next()? == number).then_some(line))?;
    let signals = line.nth(2)?.parse().ok();
    let mut next = || line.next()?.parse::<u64>().ok();
    Some(Counted {
        signals,
        masks: next()?,
        unmasks: next()?,
        retargets: next()?,
        loopbacks: next()?,
        failures: next()?,
    })
}

/// The vectors that have a line.
pub(super) fn vectors(table: &str) -> Vec<u32> {
    let firsts = table.lines().filter_map(|line| line.split_whitespace().next());
    firsts.filter_map(|first| first.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
mode msix msi 0 msix 65 dynamic 1 detach keep
requests 3 refused 0 enables 1 disables 0 attaches 2 detaches 0
vector   irq state    signals      masks    unmasks  retargets  loopbacks   failures
     1    38 open           7          1          2          3          4          5
    12     - masked         -          1          0          0          0          0
  gone     -  -             9          0          0          0          0          0
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
        assert!(!detach_frees(TABLE));
    }
}
