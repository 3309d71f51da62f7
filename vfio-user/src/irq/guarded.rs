//! The mutex of one interrupt: its eventfd, and the state that decides whether a raise signals it.
//!
//! A raise writes to the eventfd while it holds the mutex. So when a request has replaced the
//! eventfd or masked the interrupt, no thread signals the old eventfd, and the request has nothing
//! more to wait for.
//!
//! The trade-off: two threads that raise the same vector wait for each other, also in the kernel
//! (`futex(2)`). Each would wait for the lock of the eventfd anyway. Threads that raise different
//! vectors share nothing. Hazard pointers in place of the mutex made a raise a tenth cheaper, and took
//! three times the code (ARCHITECTURE.md has the figures).
//!
//! # A write that blocks
//!
//! The client can clear `O_NONBLOCK` and fill the counter of its eventfd at any time. A raise then
//! blocks and holds the mutex. No other thread may wait for the client, so each thread waits for the
//! mutex with a timeout, and then empties the full counter ([`Guarded::make_room`]).
//!
//! # Invariants
//!
//! - `attached` is the eventfd of `inner`. A thread changes it while it holds `inner`.
//! - No thread waits for `inner`, nor writes to an eventfd, while it holds `attached`.

use super::trigger::Trigger;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Duration;

/// How long a raise may hold the mutex before its eventfd counts as full. An eventfd write takes
/// less than a microsecond, but the raising thread may be preempted.
const PATIENCE: Duration = Duration::from_millis(20);

/// An eventfd and the state of its interrupt, under one mutex.
#[derive(Default)]
pub(crate) struct Guarded<S> {
    inner: Mutex<Inner<S>>,
    /// The eventfd again, for [`Guarded::make_room`].
    attached: Mutex<Option<Arc<Trigger>>>,
}

#[derive(Default)]
struct Inner<S> {
    trigger: Option<Arc<Trigger>>,
    state: S,
}

impl<S> Guarded<S> {
    /// Calls `act` under the mutex, with the state and the eventfd. Returns the result of `act`.
    #[inline]
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut S, Option<&Trigger>) -> T) -> T {
        let inner = &mut *self.lock();
        act(&mut inner.state, inner.trigger.as_deref())
    }

    /// Replaces the eventfd and calls `act`, both under the mutex. Returns the old eventfd, which
    /// no thread signals any more.
    pub(crate) fn replace(
        &self,
        trigger: Option<Arc<Trigger>>,
        act: impl FnOnce(&mut S, Option<&Trigger>),
    ) -> Option<Arc<Trigger>> {
        let inner = &mut *self.lock();
        // First, because `act` may block in a write to the new eventfd.
        self.attached.lock().clone_from(&trigger);
        let old = std::mem::replace(&mut inner.trigger, trigger);
        act(&mut inner.state, inner.trigger.as_deref());
        old
    }

    /// Empties the counter if it is full, so that a thread that blocks in a write continues. Any
    /// thread may call this: the thread that serves the client may itself be blocked.
    pub(crate) fn make_room(&self) {
        let attached = self.attached.lock().clone();
        attached.iter().for_each(|trigger| trigger.make_room());
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        loop {
            if let Some(inner) = self.inner.try_lock_for(PATIENCE) {
                return inner;
            }
            self.make_room();
        }
    }
}
