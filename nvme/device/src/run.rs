//! What the thread of the connection tells the worker.

use std::sync::{Mutex, MutexGuard, PoisonError};
use vfio_irq_nvme_spec::register::{FATAL, READY};

/// One enabling of a controller, until it is disabled.
///
/// A lock is enough: it is held for a few instructions, and a write of a doorbell takes it once.
pub(crate) struct Run(Mutex<State>);

struct State {
    /// The tail of submission queue n at 2n, the head of completion queue n at 2n + 1.
    doorbells: Box<[u32]>,
    /// One bit per doorbell: the guest has written it.
    rung: Box<[u64]>,
    /// There is work: a bit of `rung`, or a flag.
    news: bool,
    stop: bool,
    shut_down: bool,
    allowed: bool,
    /// The controller has failed (CSTS.CFS).
    broken: bool,
    status: u32,
}

impl Run {
    pub(crate) fn new(queues: u16, allowed: bool) -> Self {
        let doorbells = 2 * (usize::from(queues) + 1);
        Self(Mutex::new(State {
            doorbells: vec![0; doorbells].into(),
            rung: vec![0; doorbells.div_ceil(64)].into(),
            news: false,
            stop: false,
            shut_down: false,
            allowed,
            broken: false,
            status: READY,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and publishes that there is work. The caller wakes the worker next.
    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.news = true;
    }

    /// Stores a doorbell write. Ignores a doorbell that does not exist.
    pub(crate) fn ring(&self, place: usize, value: u32) {
        self.tell(|state| {
            if let Some(doorbell) = state.doorbells.get_mut(place) {
                *doorbell = value;
                state.rung[place / 64] |= 1 << (place % 64);
            }
        });
    }

    /// Clears the doorbell of a new queue: earlier writes were for an old queue.
    pub(crate) fn clear(&self, place: usize) {
        if let Some(doorbell) = self.state().doorbells.get_mut(place) {
            *doorbell = 0;
        }
    }

    /// Moves the written doorbells to `heard`, each with its last value. Returns true if anything was
    /// published. Later loads see what the guest wrote to its memory before the doorbell.
    pub(crate) fn listen(&self, heard: &mut Vec<(usize, u32)>) -> bool {
        let mut state = self.state();
        if !std::mem::take(&mut state.news) {
            return false;
        }
        let State { doorbells, rung, .. } = &mut *state;
        for (word, bits) in rung.iter_mut().enumerate() {
            while *bits != 0 {
                let place = word * 64 + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                heard.push((place, doorbells[place]));
            }
        }
        true
    }

    /// Returns true if nothing was published.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.state().news
    }

    /// Returns true if commands may be carried out.
    pub(crate) fn is_active(&self) -> bool {
        let state = self.state();
        state.allowed && !state.broken
    }

    /// Sets CSTS.CFS; the guest must disable the controller.
    pub(crate) fn fail(&self) {
        let mut state = self.state();
        state.broken = true;
        state.status |= FATAL;
    }

    pub(crate) fn stop(&self) {
        self.tell(|state| state.stop = true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.state().stop
    }

    pub(crate) fn shut_down(&self) {
        self.tell(|state| state.shut_down = true);
    }

    /// Returns true once after the guest has requested a shutdown.
    pub(crate) fn take_shut_down(&self) -> bool {
        std::mem::take(&mut self.state().shut_down)
    }

    pub(crate) fn allow(&self, on: bool) {
        self.tell(|state| state.allowed = on);
    }

    pub(crate) fn status(&self) -> u32 {
        self.state().status
    }

    pub(crate) fn set_status(&self, bits: u32) {
        self.state().status |= bits;
    }

    /// Clears CSTS after the worker has ended.
    pub(crate) fn over(&self) {
        self.state().status = 0;
    }
}
