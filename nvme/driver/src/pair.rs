//! A ring and its vector.

use super::interrupts::Attached;
use super::ring::{Completion, Ring, Words};
use super::space::Dma;
use super::{Error, Stats};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_irq::Trigger;

/// If a completion stays this long without a signal, its interrupt is lost.
pub(crate) const STALL: Duration = Duration::from_secs(1);
/// How often a blocking call checks the controller.
const LOOK: Duration = Duration::from_millis(250);

pub(crate) struct Pair {
    pub(crate) ring: Ring,
    pub(crate) trigger: Trigger,
    /// `None` after the vector was detached.
    pub(crate) vector: Option<Attached>,
    pub(crate) stats: Stats,
    /// When a completion without a signal was first seen.
    untold: Option<Instant>,
}

impl Pair {
    pub(crate) fn new(ring: Ring, trigger: Trigger, vector: Attached) -> Self {
        Self { ring, trigger, vector: Some(vector), stats: Stats::default(), untold: None }
    }

    /// Consumes the signal first, then takes all completions. The reverse order could consume the
    /// signal of a completion that was not taken (lost wake-up).
    pub(crate) fn drain(&mut self, each: impl FnMut(Completion)) -> Result<usize, Error> {
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

    /// Returns how long a completion has been seen without a signal.
    pub(crate) fn untold(&mut self) -> Option<Duration> {
        // The order matters: a signal follows its completion.
        if self.ring.has_completion() && !self.trigger.is_signalled() {
            return Some(self.untold.get_or_insert_with(Instant::now).elapsed());
        }
        self.untold = None;
        None
    }

    /// Submits a command while no other is outstanding, and waits for completion. `check` returns
    /// an error if the command can no longer complete.
    pub(crate) fn run(
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
            // If the interrupt is lost, polling still completes the command.
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
