//! Counts the system's resources, which must be equal before and after.

use crate::Error;
use fs_err as fs;
use std::fmt;
use std::time::Duration;

/// The resources that interrupts use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resources {
    /// Handlers of VFIO in /proc/interrupts.
    pub handlers: usize,
    /// Interrupt descriptors of the whole machine.
    pub descriptors: usize,
    /// Open files of the whole machine, eventfds among them.
    pub files: u64,
    /// Memory of the kernel that cannot be reclaimed, in KiB.
    pub slab: u64,
}

/// The tolerated increase of the kernel's memory, in KiB: its caches keep pages.
pub const SLAB_TOLERANCE: u64 = 1024;

fn first_number(text: &str) -> u64 {
    text.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0)
}

impl Resources {
    /// Counts the resources.
    pub fn count() -> Result<Self, Error> {
        let memory = fs::read_to_string("/proc/meminfo")?;
        let slab = memory.lines().find_map(|line| line.strip_prefix("SUnreclaim:"));
        Ok(Self {
            handlers: fs::read_to_string("/proc/interrupts")?.matches("vfio-").count(),
            descriptors: fs::read_dir("/sys/kernel/irq")?.count(),
            files: first_number(&fs::read_to_string("/proc/sys/fs/file-nr")?),
            slab: slab.map_or(0, first_number),
        })
    }

    /// Counts until the result equals `before`, for as long as a release may take. Returns the last
    /// count.
    pub fn settled(before: &Self) -> Result<Self, Error> {
        let mut now = Self::count()?;
        for _ in 0..50 {
            if now.back_to(before) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            now = Self::count()?;
        }
        Ok(now)
    }

    /// Returns true if everything is released.
    pub fn back_to(&self, before: &Self) -> bool {
        self.handlers == before.handlers
            && self.descriptors == before.descriptors
            && self.files == before.files
            && self.slab <= before.slab + SLAB_TOLERANCE
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handlers, descriptors, files, slab } = self;
        write!(f, "handlers={handlers} irqs={descriptors} files={files} slab={slab}KiB")
    }
}
