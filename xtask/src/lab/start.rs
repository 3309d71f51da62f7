//! Detects whether a guest has begun to run its first program, and starts a guest again that has
//! not.
//!
//! On a busy machine a guest's kernel may stand still while it calibrates its clocks. The host
//! kept the guest from running just then, which says nothing about the driver under test. Init
//! writes its line before it loads a module, so a driver that hangs the guest is not excused.

use fs_err::read_to_string as read;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};

/// The line that init writes to the report first.
pub const STARTED: &str = "@@ started";

/// The longest time from QEMU's start to the guest's first program. A boot takes 5 to 10 seconds on
/// an idle machine.
pub const FAIR: Duration = Duration::from_secs(120);

/// Watches for a guest's first program.
#[derive(Debug)]
pub struct Watch<'a> {
    report: &'a Path,
    started: bool,
}

impl<'a> Watch<'a> {
    /// Watches a guest that writes its report to `report`.
    pub fn new(report: &'a Path) -> Self {
        Self { report, started: false }
    }

    /// Returns true if the guest has used up its time without reaching its first program.
    pub fn stands_still(&mut self, since_start: Duration) -> bool {
        if since_start < FAIR {
            return false;
        }
        // Once the line is seen, the report is not read again: a guest may run for a day.
        self.started = self.started || read(self.report).is_ok_and(|text| has_started(&text));
        !self.started
    }
}

/// Returns true if the report shows that init runs.
fn has_started(report: &str) -> bool {
    report.lines().any(|line| line == STARTED)
}

/// The result of starting a guest at most twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Started<T> {
    /// The value of the last start.
    pub value: T,
    /// True if the guest was started twice.
    pub twice: bool,
}

/// Starts a guest with `start`, and once more if it did not reach its first program. Returns the
/// second failure if it fails again: a kernel that never boots must be visible.
pub fn at_most_twice<T>(mut start: impl FnMut() -> Result<T>) -> Result<Started<T>> {
    match start() {
        Err(error @ Error::NotStarted { .. }) => {
            eprintln!("lab: {error}\nlab: it is started once more");
            Ok(Started { value: start()?, twice: true })
        }
        ended => Ok(Started { value: ended?, twice: false }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::{FAIR, Started, Watch, at_most_twice, has_started};
    use crate::error::{Error, Result};

    fn not_started() -> Result<u8> {
        Err(Error::NotStarted { console: PathBuf::from("console"), tail: String::new() })
    }

    /// Makes starts that end as `ends` says, one after the other.
    fn starts(ends: Vec<fn() -> Result<u8>>) -> (Result<Started<u8>>, usize) {
        let mut used = 0;
        let found = at_most_twice(|| {
            used += 1;
            ends[used - 1]()
        });
        (found, used)
    }

    #[test]
    fn a_guest_that_starts_is_started_once() {
        let (found, used) = starts(vec![|| Ok(3)]);
        assert_eq!((found.unwrap(), used), (Started { value: 3, twice: false }, 1));
    }

    #[test]
    fn a_guest_that_does_not_start_is_started_once_more() {
        let (found, used) = starts(vec![not_started, || Ok(3)]);
        assert_eq!((found.unwrap(), used), (Started { value: 3, twice: true }, 2));
    }

    #[test]
    fn a_guest_that_never_starts_fails() {
        let (found, used) = starts(vec![not_started, not_started]);
        assert!(matches!(found, Err(Error::NotStarted { .. })));
        assert_eq!(used, 2);
    }

    #[test]
    fn other_failures_are_final() {
        let (found, used) = starts(vec![|| Err(Error::other("panicked"))]);
        assert!(matches!(found, Err(Error::Other(_))));
        assert_eq!(used, 1);
    }

    #[test]
    fn only_inits_own_line_shows_a_start() {
        assert!(has_started("@@ started\n@@ log\n"));
        assert!(!has_started(""));
        assert!(!has_started("said: @@ started\n"));
    }

    #[test]
    fn a_guest_has_its_time_before_it_stands_still() {
        let absent = PathBuf::from("/nonexistent/report");
        let mut watch = Watch::new(&absent);
        assert!(!watch.stands_still(FAIR - Duration::from_millis(1)));
        assert!(watch.stands_still(FAIR));
        watch.started = true;
        assert!(!watch.stands_still(FAIR));
    }
}
