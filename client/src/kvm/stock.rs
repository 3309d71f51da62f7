//! Eventfds that were made ahead.

use crate::{Error, Trigger};
use std::sync::{Mutex, PoisonError};

/// Eventfds for threads that may not call `eventfd2`.
#[derive(Debug, Default)]
pub(super) struct Stock(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    eventfds: Vec<Trigger>,
    /// The eventfd after the last one that was taken.
    next: usize,
}

impl Stock {
    /// Makes `count` eventfds more. Returns an error if no descriptor is left; those that were
    /// made stay.
    pub(super) fn add(&self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            let eventfd = Trigger::new()?;
            self.0.lock().unwrap_or_else(PoisonError::into_inner).eventfds.push(eventfd);
        }
        Ok(())
    }

    /// Returns an eventfd of the stock that no vector uses, with a count of 0. Returns a new one if
    /// there is none.
    pub(super) fn take(&self) -> Result<Trigger, Error> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { eventfds, next } = &mut *inner;
        let (before, after) = eventfds.split_at(*next);
        let unused = after.iter().chain(before).position(Trigger::is_unshared);
        let Some(at) = unused.and_then(|at| at.checked_add(*next)?.checked_rem(eventfds.len()))
        else {
            return Trigger::new();
        };
        *next = at.saturating_add(1);
        let Some(eventfd) = eventfds.get(at) else { return Trigger::new() };
        eventfd.take();
        Ok(eventfd.clone())
    }
}
