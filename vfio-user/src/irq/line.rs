//! INTx, ERR and REQ: a lock each, for none is in anybody's way.

use super::trigger::Trigger;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The interrupt line (`CONTRACT.md`, X-01 to X-06).
#[derive(Debug, Default)]
pub(crate) struct Line {
    enabled: bool,
    /// The device holds it.
    asserted: bool,
    /// Masked by a request, or by its own signal.
    masked: bool,
    /// Switched off in the command register.
    off: bool,
    trigger: Option<Trigger>,
}

impl Line {
    pub(crate) fn enable(&mut self) {
        (self.enabled, self.masked) = (true, false);
        self.settle();
    }

    pub(crate) fn disable(&mut self) {
        (self.enabled, self.masked, self.trigger) = (false, false, None);
    }

    pub(crate) fn set_trigger(&mut self, trigger: Option<Trigger>) {
        self.trigger = trigger;
        self.settle();
    }

    pub(crate) fn set_masked(&mut self, masked: bool) {
        self.masked = masked;
        self.settle();
    }

    pub(crate) fn set_off(&mut self, off: bool) {
        self.off = off;
        self.settle();
    }

    pub(crate) fn set_asserted(&mut self, asserted: bool) {
        self.asserted = asserted;
        self.settle();
    }

    pub(crate) fn is_asserted(&self) -> bool {
        self.asserted
    }

    pub(crate) fn signal(&self) {
        self.trigger.iter().for_each(Trigger::signal);
    }

    /// Signals a line that is asserted and open, which masks it.
    fn settle(&mut self) {
        let open = self.enabled && !self.masked && !self.off;
        if open && self.asserted && self.trigger.is_some() {
            self.masked = true;
            self.signal();
        }
    }
}

/// A lock whose holders cannot leave it half-changed, so a panic elsewhere does not matter.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
