//! The threads that work for an enabled controller: few, whatever the number of queues.
//!
//! One that is awake looks for work. Before it begins something that may take a while, it steps aside:
//! if there is work left, another one takes over, and if work comes later, whoever brings it wakes
//! another one. So a slow command holds nobody up while a thread is left, and commands that are done
//! at once are done by one thread without a wake-up.

use super::run::Run;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::warn;

/// Threads of one controller, at most.
pub(super) const MOST: usize = 4;

/// How long to look for a doorbell before sleeping.
const SPIN: Duration = Duration::from_micros(20);

#[derive(Default)]
pub(super) struct Crew {
    /// How many look for work, or are about to: changed under the lock, read by those who bring work.
    awake: AtomicUsize,
    state: Mutex<State>,
    call: Condvar,
}

#[derive(Default)]
struct State {
    /// Queues with commands, the next one first.
    turns: VecDeque<u16>,
    /// Threads that sleep.
    asleep: usize,
    /// Threads that slept and were called, but do not know yet. They count as awake.
    called: usize,
    /// Threads that there are.
    threads: usize,
    /// The system has no more.
    exhausted: bool,
    handles: Vec<JoinHandle<()>>,
}

impl Crew {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A queue waits for its turn.
    pub(super) fn push(&self, queue: u16) {
        self.state().turns.push_back(queue);
    }

    /// The queue whose turn it is.
    pub(super) fn pop(&self) -> Option<u16> {
        self.state().turns.pop_front()
    }

    /// There is news, which `run` knows already. If nobody looks for it, somebody is woken, or begins.
    pub(super) fn rouse(&self, run: &Run, begin: impl FnOnce() -> Begun) {
        if self.awake.load(Ordering::SeqCst) == 0 {
            self.muster(&mut self.state(), run, begin);
        }
    }

    /// Has the first thread begin.
    pub(super) fn begin(&self, begin: impl FnOnce() -> Begun) -> std::io::Result<()> {
        self.enlist(&mut self.state(), begin)
    }

    fn enlist(&self, state: &mut State, begin: impl FnOnce() -> Begun) -> std::io::Result<()> {
        state.handles.push(begin()?);
        state.threads += 1;
        self.awake.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Has somebody look for work if nobody does. If all are busy, the first to be ready does.
    fn muster(&self, state: &mut State, run: &Run, begin: impl FnOnce() -> Begun) {
        if self.awake.load(Ordering::SeqCst) > 0 {
            return;
        }
        if state.asleep > 0 {
            state.asleep -= 1;
            state.called += 1;
            self.awake.fetch_add(1, Ordering::SeqCst);
            self.call.notify_one();
        } else if state.threads < MOST
            && !state.exhausted
            && !run.is_stopping()
            && let Err(error) = self.enlist(state, begin)
        {
            state.exhausted = true;
            warn!(%error, "a controller works with {} threads: there are no more", state.threads);
        }
    }

    /// This thread does something that may take a while.
    pub(super) fn step_aside(&self, run: &Run, begin: impl FnOnce() -> Begun) {
        let mut state = self.state();
        let awake = self.awake.fetch_sub(1, Ordering::SeqCst) - 1;
        if awake == 0 && run.has_work(!state.turns.is_empty()) {
            self.muster(&mut state, run, begin);
        }
    }

    /// This thread is ready again.
    pub(super) fn step_back(&self) {
        self.awake.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits for work: for a moment by looking, if nobody else does, then asleep.
    pub(super) fn rest(&self, run: &Run) {
        let start = Instant::now();
        while run.is_active()
            && run.is_quiet()
            && self.awake.load(Ordering::Relaxed) == 1
            && start.elapsed() < SPIN
        {
            std::hint::spin_loop();
        }
        let mut state = self.state();
        // Whoever brings work says so first and counts those awake then; this is the other way round.
        self.awake.fetch_sub(1, Ordering::SeqCst);
        if run.has_work(!state.turns.is_empty()) {
            self.awake.fetch_add(1, Ordering::SeqCst);
            return;
        }
        state.asleep += 1;
        while state.called == 0 {
            state = self.call.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.called -= 1;
    }

    /// Wakes all threads: the controller is being disabled, as `run` knows.
    pub(super) fn dismiss(&self) {
        let mut state = self.state();
        let asleep = std::mem::take(&mut state.asleep);
        state.called += asleep;
        self.awake.fetch_add(asleep, Ordering::SeqCst);
        self.call.notify_all();
    }

    /// A thread ends; whether it is the last one.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.state();
        self.awake.fetch_sub(1, Ordering::SeqCst);
        state.threads -= 1;
        state.threads == 0
    }

    /// Waits until all threads have ended. They were dismissed.
    pub(super) fn join(&self) {
        let handles = std::mem::take(&mut self.state().handles);
        for handle in handles {
            if handle.join().is_err() {
                warn!("a thread of a controller has died");
            }
        }
    }
}

/// A thread that has begun.
type Begun = std::io::Result<JoinHandle<()>>;
