//! Pins the test and its interrupts to one processor. The processor takes an interrupt before the
//! instruction after the one that raised it, so counting signals needs no wait.

use crate::Error;
use rustix::thread::CpuSet;

const DEFAULT_AFFINITY: &str = "/proc/irq/default_smp_affinity";

/// A guard that keeps this thread and new interrupts on the machine's first processor.
#[derive(Debug)]
pub struct Pinned {
    /// The previous default affinity of new interrupts.
    before: Option<String>,
}

impl Pinned {
    /// Pins the thread, and new interrupts if the process is root.
    pub fn new() -> Result<Self, Error> {
        let mut first = CpuSet::new();
        first.set(0);
        rustix::thread::sched_setaffinity(None, &first).map_err(std::io::Error::from)?;
        let before = std::fs::read_to_string(DEFAULT_AFFINITY).ok();
        let led = std::fs::write(DEFAULT_AFFINITY, "1").is_ok();
        Ok(Self { before: before.filter(|_| led) })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing can be done if the value written before cannot be written again.
            let _ = std::fs::write(DEFAULT_AFFINITY, before.trim());
        }
    }
}
