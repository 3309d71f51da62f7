//! Detects whether a guest has begun to run its first program, and starts a guest again that has
//! not.
//!
//! On a busy machine a guest's kernel may stand still while it calibrates its clocks. The host
//! kept the guest from running just then, which says nothing about the driver under test. A kernel
//! of several processors may also panic while it patches its own code under emulation. Init
//! writes its line before it loads a module, so a driver that hangs the guest is not excused.

use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use fs_err as fs;

use crate::error::{Error, Result};

/// The line that init writes to the report first.
pub const STARTED: &str = "@@ started";

/// The longest time from QEMU's start to the guest's first program. A boot takes 5 to 10 seconds on
/// an idle machine.
pub const FAIR: Duration = Duration::from_secs(120);

/// Waits at most `limit` until init runs in the guest of `qemu`, or QEMU ends. Returns false if
/// neither happened.
pub fn is_started(qemu: &mut Child, report: &Path, limit: Duration) -> bool {
    let start = Instant::now();
    while matches!(qemu.try_wait(), Ok(None)) {
        if fs::read_to_string(report).is_ok_and(|text| text.lines().any(|line| line == STARTED)) {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
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
    use std::process::Command;
    use std::time::Duration;

    use super::{Started, at_most_twice, is_started};
    use crate::error::{Error, Result};

    #[test]
    fn only_a_guest_that_does_not_start_is_started_once_more() {
        type Start = fn() -> Result<u8>;
        let starts: Start = || Ok(3);
        let panics: Start = || Err(Error::other("panicked"));
        let hangs: Start = || {
            Err(Error::NotStarted {
                waited: super::FAIR,
                console: "console".into(),
                tail: String::new(),
            })
        };
        for (ends, wanted) in [
            (vec![starts], Some(Started { value: 3, twice: false })),
            (vec![hangs, starts], Some(Started { value: 3, twice: true })),
            (vec![hangs, hangs], None),
            (vec![panics], None),
        ] {
            let mut left = ends.iter();
            let found = at_most_twice(|| left.next().expect("it is started twice at most")());
            assert_eq!(found.ok(), wanted);
            assert_eq!(left.len(), 0, "it was started less often than it must be");
        }
    }

    #[test]
    fn only_inits_own_line_shows_a_start() {
        let report = std::env::temp_dir().join(format!("vfio-irq-start-{}", std::process::id()));
        let mut qemu = Command::new("sleep").arg("60").spawn().unwrap();
        for (text, started) in
            [("", false), ("said: @@ started\n", false), ("@@ started\n@@ log\n", true)]
        {
            fs_err::write(&report, text).unwrap();
            assert_eq!(is_started(&mut qemu, &report, Duration::ZERO), started, "{text:?}");
        }
        fs_err::remove_file(&report).unwrap();
        qemu.kill().unwrap();
        qemu.wait().unwrap();
        // A guest that has ended does not stand still.
        assert!(is_started(&mut qemu, &report, Duration::ZERO));
    }
}
