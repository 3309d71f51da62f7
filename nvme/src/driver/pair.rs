//! A ring and the interrupt that tells of its completions.

use super::interrupts::Attached;
use super::memory::Dma;
use super::ring::{Completion, Ring, Words};
use super::{Error, Stats};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_irq::Trigger;

/// A completion that lies there for so long without a signal was told to nobody.
pub(super) const STALL: Duration = Duration::from_secs(1);
/// How often a call that waits looks whether the controller is still there.
const LOOK: Duration = Duration::from_millis(250);

pub(super) struct Pair {
    pub(super) ring: Ring,
    pub(super) trigger: Trigger,
    /// `None` once it was detached.
    pub(super) vector: Option<Attached>,
    pub(super) stats: Stats,
    /// When a completion was first seen that no signal had told of.
    untold: Option<Instant>,
}

impl Pair {
    pub(super) fn new(ring: Ring, trigger: Trigger, vector: Attached) -> Self {
        Self { ring, trigger, vector: Some(vector), stats: Stats::default(), untold: None }
    }

    /// Takes the signal, then every completion.
    pub(super) fn drain(&mut self, each: impl FnMut(Completion)) -> Result<usize, Error> {
        let signals = self.trigger.take();
        self.stats.signals = self.stats.signals.saturating_add(signals);
        let untold = self.untold.take();
        let count = self.ring.take(each)?;
        self.stats.completions += count as u64;
        if signals == 0 && count > 0 {
            self.stats.polled += count as u64;
            self.stats.stalls += u64::from(untold.is_some_and(|since| since.elapsed() >= STALL));
        }
        Ok(count)
    }

    /// How long a completion has been lying there, as far as was looked, without a signal.
    pub(super) fn untold(&mut self) -> Option<Duration> {
        // In this order: a signal follows its completion.
        if self.ring.has_completion() && !self.trigger.is_signalled() {
            return Some(self.untold.get_or_insert_with(Instant::now).elapsed());
        }
        self.untold = None;
        None
    }

    /// Has a command carried out while no other is under way. `check` says whether it still can be.
    pub(super) fn run(
        &mut self,
        command: &'static str,
        (words, data): (Words, Option<Arc<Dma>>),
        timeout: Duration,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<u32, Error> {
        self.ring.alive()?;
        let queue = self.ring.id();
        if self.ring.open() > 0 {
            return Err(Error::Busy { queue, open: self.ring.open() });
        }
        self.ring.submit(words, 0, data)?;
        let since = Instant::now();
        let mut end = None;
        loop {
            let left = timeout.saturating_sub(since.elapsed());
            let told = self.trigger.wait(left.min(LOOK));
            // An interrupt that nobody was told of must not keep its command from ending.
            if told || self.untold().is_some_and(|time| time >= STALL) || left.is_zero() {
                self.drain(|completion| end = Some(completion.result))?;
            }
            if let Some(end) = end {
                return end.map_err(|status| Error::Status { command, status });
            }
            if left.is_zero() {
                return Err(Error::Timeout { command, queue, waited: timeout });
            }
            check()?;
        }
    }
}
