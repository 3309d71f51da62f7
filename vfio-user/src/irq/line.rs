//! INTx, ERR and REQ. Each has a mutex, because none of them is hot. No eventfd is written under
//! the mutex: the client can make the write block, and the serving thread needs the mutex.

use super::trigger::Trigger;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An interrupt with one eventfd and no mask: ERR, REQ.
#[derive(Debug, Default)]
pub(crate) struct Outlet(Mutex<Option<Arc<Trigger>>>);

impl Outlet {
    pub(crate) fn is_set(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Replaces the eventfd. When it returns, no thread uses the old eventfd.
    pub(crate) fn set(&self, trigger: Option<Trigger>) {
        let old = std::mem::replace(&mut *lock(&self.0), trigger.map(Arc::new));
        old.iter().for_each(|old| Trigger::settle(old, 1));
    }

    pub(crate) fn signal(&self) {
        let trigger = lock(&self.0).clone();
        trigger.iter().for_each(|trigger| trigger.signal());
    }

    /// Empties the counter, so that a thread that blocks in a write continues.
    pub(crate) fn make_room(&self) {
        let trigger = lock(&self.0).clone();
        trigger.iter().for_each(|trigger| trigger.make_room());
    }
}

/// INTx (`CONTRACT.md`, X-01 to X-06).
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    enabled: bool,
    /// The device asserts INTx.
    asserted: bool,
    /// Masked by the client, or automatically by the last signal.
    masked: bool,
    /// The guest has set Interrupt Disable in the command register.
    off: bool,
    trigger: Option<Arc<Trigger>>,
}

impl State {
    /// Masks INTx if INTx is asserted and unmasked. Returns the eventfd to signal after the mutex
    /// is released.
    fn due(&mut self) -> Option<Arc<Trigger>> {
        let open = self.enabled && !self.masked && !self.off;
        let due = self.trigger.clone().filter(|_| open && self.asserted);
        self.masked |= due.is_some();
        due
    }
}

impl Line {
    fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let (outcome, due) = {
            let mut state = lock(&self.0);
            (act(&mut state), state.due())
        };
        due.iter().for_each(|trigger| trigger.signal());
        outcome
    }

    fn trigger(&self) -> Option<Arc<Trigger>> {
        lock(&self.0).trigger.clone()
    }

    /// Waits for the threads that found INTx unmasked and are about to signal.
    fn settle(&self) {
        // `State` holds one reference and this function one.
        self.trigger().iter().for_each(|trigger| Trigger::settle(trigger, 2));
    }

    pub(crate) fn enable(&self) {
        self.change(|state| (state.enabled, state.masked) = (true, false));
    }

    pub(crate) fn disable(&self) {
        self.change(|state| (state.enabled, state.masked) = (false, false));
        self.set_trigger(None);
    }

    /// Replaces the eventfd. When it returns, no thread uses the old eventfd.
    pub(crate) fn set_trigger(&self, trigger: Option<Trigger>) {
        let new = trigger.map(Arc::new);
        let old = self.change(|state| std::mem::replace(&mut state.trigger, new));
        old.iter().for_each(|old| Trigger::settle(old, 1));
    }

    /// Masks or unmasks INTx. When it returns after masking, no thread signals the eventfd.
    pub(crate) fn set_masked(&self, masked: bool) {
        self.change(|state| state.masked = masked);
        if masked {
            self.settle();
        }
    }

    pub(crate) fn set_off(&self, off: bool) {
        self.change(|state| state.off = off);
        if off {
            self.settle();
        }
    }

    pub(crate) fn set_asserted(&self, asserted: bool) {
        self.change(|state| state.asserted = asserted);
    }

    pub(crate) fn is_asserted(&self) -> bool {
        lock(&self.0).asserted
    }

    pub(crate) fn signal(&self) {
        self.trigger().iter().for_each(|trigger| trigger.signal());
    }

    /// Empties the counter, so that a thread that blocks in a write continues.
    pub(crate) fn make_room(&self) {
        self.trigger().iter().for_each(|trigger| trigger.make_room());
    }
}

/// Locks a mutex. Poison is ignored: no panic can leave the state half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
