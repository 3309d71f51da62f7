//! The worker pool of an enabled controller: at most [`MOST`] threads, however many queues the
//! guest creates.
//!
//! An awake worker polls the doorbells and serves the queues. Before a worker starts a command that
//! may block, the worker steps aside. If work is left, it wakes or spawns another worker. If work
//! comes later, the thread that publishes the work does that. So a slow command delays other queues
//! only if all workers are busy. Fast commands need one worker and no wake-up.
//!
//! There is no thread per queue, because a guest may create a thousand queues.
//!
//! # Invariants
//!
//! - The publisher stores the work first and loads `awake` second. A worker that is about to sleep
//!   decrements `awake` first and looks for work second. Both use `SeqCst`, so one of them sees the
//!   other: no wake-up is lost.
//! - `called` counts workers that were woken but still hold no lock. They count as awake.

use super::run::Run;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::warn;

/// The greatest number of workers of one controller.
pub(crate) const MOST: usize = 4;

/// How long the last awake worker polls the doorbells before it sleeps.
const SPIN: Duration = Duration::from_micros(20);

#[derive(Default)]
pub(crate) struct WorkerPool {
    /// Workers that look for work, or are about to. Changed under the lock, except that a worker
    /// steps back without it; publishers read it without the lock.
    awake: AtomicUsize,
    state: Mutex<State>,
    call: Condvar,
}

#[derive(Default)]
struct State {
    /// Queues with commands, in the order of service.
    turns: VecDeque<u16>,
    /// Workers that sleep.
    asleep: usize,
    /// Workers that were woken, but have not taken the lock yet. They count as awake.
    called: usize,
    /// Workers that exist.
    threads: usize,
    /// The system refused to spawn another thread.
    exhausted: bool,
    handles: Vec<JoinHandle<()>>,
}

impl WorkerPool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a queue to the queues that wait for service.
    pub(crate) fn push(&self, queue: u16) {
        self.state().turns.push_back(queue);
    }

    /// Removes and returns the queue that is served next.
    pub(crate) fn pop(&self) -> Option<u16> {
        self.state().turns.pop_front()
    }

    /// Wakes an idle worker, or spawns one, if no worker is awake. Publish the work to `run` first.
    pub(crate) fn wake(&self, run: &Run, begin: impl FnOnce() -> Spawned) {
        if self.awake.load(Ordering::SeqCst) == 0 {
            self.wake_or_spawn(&mut self.state(), run, begin);
        }
    }

    /// Spawns the first worker. Returns an error if the system has no more threads.
    pub(crate) fn begin(&self, begin: impl FnOnce() -> Spawned) -> std::io::Result<()> {
        self.spawn(&mut self.state(), begin)
    }

    fn spawn(&self, state: &mut State, begin: impl FnOnce() -> Spawned) -> std::io::Result<()> {
        state.handles.push(begin()?);
        state.threads += 1;
        self.awake.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Wakes or spawns a worker if no worker is awake. If all workers are busy, the first that
    /// steps back looks for work.
    fn wake_or_spawn(&self, state: &mut State, run: &Run, begin: impl FnOnce() -> Spawned) {
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
            && let Err(error) = self.spawn(state, begin)
        {
            state.exhausted = true;
            warn!(%error, "a controller works with {} threads: there are no more", state.threads);
        }
    }

    /// Marks the calling worker as busy with a command that may block. If work is left and no other
    /// worker is awake, wakes or spawns one.
    pub(crate) fn step_aside(&self, run: &Run, begin: impl FnOnce() -> Spawned) {
        let mut state = self.state();
        let awake = self.awake.fetch_sub(1, Ordering::SeqCst) - 1;
        if awake == 0 && run.has_work(!state.turns.is_empty()) {
            self.wake_or_spawn(&mut state, run, begin);
        }
    }

    /// Marks the calling worker as awake again.
    pub(crate) fn step_back(&self) {
        self.awake.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits for work. The last awake worker polls for a moment first; then the worker sleeps.
    pub(crate) fn rest(&self, run: &Run) {
        let start = Instant::now();
        while run.is_active()
            && run.is_quiet()
            && self.awake.load(Ordering::Relaxed) == 1
            && start.elapsed() < SPIN
        {
            std::hint::spin_loop();
        }
        let mut state = self.state();
        // A publisher stores the work first and loads `awake` second. This is the reverse order, so
        // no wake-up is lost.
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

    /// Wakes all workers, so that they end. Call [`Run::stop`] first.
    pub(crate) fn wake_all(&self) {
        let mut state = self.state();
        let asleep = std::mem::take(&mut state.asleep);
        state.called += asleep;
        self.awake.fetch_add(asleep, Ordering::SeqCst);
        self.call.notify_all();
    }

    /// Removes the calling worker, which ends. Returns true if it was the last one.
    pub(crate) fn leave(&self) -> bool {
        let mut state = self.state();
        self.awake.fetch_sub(1, Ordering::SeqCst);
        state.threads -= 1;
        state.threads == 0
    }

    /// Waits until all workers have ended. Call [`WorkerPool::wake_all`] first.
    pub(crate) fn join(&self) {
        let handles = std::mem::take(&mut self.state().handles);
        for handle in handles {
            if handle.join().is_err() {
                warn!("a thread of a controller has died");
            }
        }
    }
}

/// The handle of a spawned worker.
type Spawned = std::io::Result<JoinHandle<()>>;
