//! One processor for the test and for the interrupts that it causes, so that an interrupt has been
//! taken when the instruction after the one that raised it runs: counting signals needs no waiting.

use crate::Error;
use rustix::thread::CpuSet;
use std::path::Path;

const DEFAULT_AFFINITY: &str = "/proc/irq/default_smp_affinity";

/// While it lives, this thread and new interrupts stay on the machine's first processor.
#[derive(Debug)]
pub struct Pinned {
    /// Where new interrupts went before.
    before: Option<String>,
}

impl Pinned {
    /// Pins. New interrupts can be led by root alone; without, only the thread is pinned.
    pub fn new() -> Result<Self, Error> {
        let mut first = CpuSet::new();
        first.set(0);
        rustix::thread::sched_setaffinity(None, &first).map_err(|source| Error::File {
            path: Path::new("processor 0").into(),
            source: source.into(),
        })?;
        let before = std::fs::read_to_string(DEFAULT_AFFINITY).ok();
        let led = std::fs::write(DEFAULT_AFFINITY, "1").is_ok();
        Ok(Self { before: before.filter(|_| led) })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing can be done where what was written a moment ago cannot be written again.
            let _ = std::fs::write(DEFAULT_AFFINITY, before.trim());
        }
    }
}
