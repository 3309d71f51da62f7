// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The simulated map of slots, and the countdown to a step that fails.

use crate::{Errno, Slots};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts down to the step that fails.
#[derive(Debug, Default)]
pub(super) struct Steps(Mutex<Option<(u64, Errno)>>);

impl Steps {
    pub(super) fn arm(&self, n: u64, errno: Errno) {
        self.replace(Some((n, errno)));
    }

    pub(super) fn disarm(&self) -> bool {
        self.replace(None).is_some()
    }

    /// Counts one step. Returns the error if this is the step to fail.
    pub(super) fn take(&self) -> Result<(), Errno> {
        match self.replace(None) {
            None => Ok(()),
            Some((0, errno)) => Err(errno),
            Some((n, errno)) => {
                self.arm(n.saturating_sub(1), errno);
                Ok(())
            }
        }
    }

    fn replace(&self, countdown: Option<(u64, Errno)>) -> Option<(u64, Errno)> {
        core::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), countdown)
    }
}

/// An ordered map. Each insertion of a slot can fail, and slots are counted.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Slots};
///
/// let sim = Sim::new();
/// let mut slots = sim.slots::<u8>();
/// slots.reserve(4)?;
/// assert!(sim.leaks().is_some(), "a reserved slot is a leak until it is removed");
/// slots.remove(4);
/// assert_eq!(sim.leaks(), None);
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Debug)]
pub struct SimSlots<S> {
    map: BTreeMap<u32, S>,
    steps: Arc<Steps>,
    count: Arc<AtomicUsize>,
}

impl<S> SimSlots<S> {
    pub(super) fn new(steps: Arc<Steps>, count: Arc<AtomicUsize>) -> Self {
        Self { map: BTreeMap::new(), steps, count }
    }
}

impl<S: Default> Slots<S> for SimSlots<S> {
    fn reserve(&mut self, number: u32) -> Result<(), Errno> {
        self.steps.take()?;
        self.map.insert(number, S::default());
        self.count.store(self.map.len(), Relaxed);
        Ok(())
    }

    fn get(&self, number: u32) -> Option<&S> {
        self.map.get(&number)
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut S> {
        self.map.get_mut(&number)
    }

    fn remove(&mut self, number: u32) -> Option<S> {
        let slot = self.map.remove(&number);
        self.count.store(self.map.len(), Relaxed);
        slot
    }

    fn first_from(&self, number: u32) -> Option<u32> {
        self.map.range(number..).next().map(|(number, _)| *number)
    }
}
