//! The counts of a controller, for the health log and for the operator.

use super::Common;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vfio_irq_user::Interrupts;

/// The counters that the worker updates.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) read_blocks: AtomicU64,
    pub(crate) written_blocks: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) others: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) media_failures: AtomicU64,
    pub(crate) enabled: AtomicU64,
    pub(crate) doorbells: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Returns the value of a counter.
pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The counts of a controller. Clones share them, and any thread may read them.
#[derive(Clone)]
pub struct Counts(pub(crate) Arc<Common>);

impl Counts {
    /// Returns the interrupts of the controller, with counts per vector.
    pub fn interrupts(&self) -> &Interrupts {
        &self.0.bus.interrupts
    }

    /// Returns the number of vectors: one for the admin queue, and one for each I/O queue.
    pub fn vectors(&self) -> u32 {
        u32::from(self.0.queues) + 1
    }

    /// Returns a snapshot of the counts.
    pub fn totals(&self) -> Totals {
        let (counters, interrupts) = (&self.0.counters, &self.0.bus.interrupts);
        Totals {
            reads: get(&counters.reads),
            writes: get(&counters.writes),
            read_blocks: get(&counters.read_blocks),
            written_blocks: get(&counters.written_blocks),
            flushes: get(&counters.flushes),
            others: get(&counters.others),
            failures: get(&counters.failures),
            doorbells: get(&counters.doorbells),
            syncs: self.0.disk.syncs(),
            vectors: (0..=u32::from(self.0.queues)).map(|v| interrupts.counts(v).signals).collect(),
        }
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counts").field(&self.totals()).finish()
    }
}

/// A snapshot of the counts. `Display` prints one line, with the vectors that were raised: `12
/// reads of 96 blocks, …; interrupts 0:31 1:12`.
///
/// ```
/// use vfio_irq_nvme_device::Totals;
///
/// let totals = Totals { reads: 2, read_blocks: 16, vectors: vec![0, 2], ..Totals::default() };
/// let line = totals.to_string();
/// assert!(line.starts_with("2 reads of 16 blocks, 0 writes of 0 blocks"));
/// // Vectors that were never signalled are left out.
/// assert!(line.ends_with("interrupts 1:2"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Read commands.
    pub reads: u64,
    /// Write commands.
    pub writes: u64,
    /// Blocks read.
    pub read_blocks: u64,
    /// Blocks written.
    pub written_blocks: u64,
    /// Flush commands.
    pub flushes: u64,
    /// All other commands, including admin commands.
    pub others: u64,
    /// Commands that completed with an error.
    pub failures: u64,
    /// Doorbell register writes. Shadow doorbells need fewer.
    pub doorbells: u64,
    /// Flushes of the medium: for each flush command, for each durable write (FUA, or no write
    /// cache), and for each shutdown.
    pub syncs: u64,
    /// Signals per vector.
    pub vectors: Vec<u64>,
}

impl Totals {
    /// Returns the difference to the earlier snapshot `before`.
    pub fn since(&self, before: &Self) -> Self {
        let at = |v: usize| before.vectors.get(v).copied().unwrap_or(0);
        let vectors = self.vectors.iter().enumerate();
        Self {
            reads: self.reads.saturating_sub(before.reads),
            writes: self.writes.saturating_sub(before.writes),
            read_blocks: self.read_blocks.saturating_sub(before.read_blocks),
            written_blocks: self.written_blocks.saturating_sub(before.written_blocks),
            flushes: self.flushes.saturating_sub(before.flushes),
            others: self.others.saturating_sub(before.others),
            failures: self.failures.saturating_sub(before.failures),
            doorbells: self.doorbells.saturating_sub(before.doorbells),
            syncs: self.syncs.saturating_sub(before.syncs),
            vectors: vectors.map(|(v, count)| count.saturating_sub(at(v))).collect(),
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reads of {} blocks, {} writes of {} blocks, {} flushes, {} other commands, {} errors, {} doorbells; interrupts",
            self.reads,
            self.read_blocks,
            self.writes,
            self.written_blocks,
            self.flushes,
            self.others,
            self.failures,
            self.doorbells
        )?;
        for (vector, count) in self.vectors.iter().enumerate().filter(|(_, count)| **count > 0) {
            write!(f, " {vector}:{count}")?;
        }
        Ok(())
    }
}
