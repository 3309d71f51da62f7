// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Eventfds that count their references and their signals.

use crate::Errno;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
enum File {
    Eventfd { signals: u64 },
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Eventfds {
    files: BTreeMap<i32, File>,
    references: Arc<AtomicUsize>,
}

impl Eventfds {
    pub(super) fn open(&mut self) -> i32 {
        self.add(File::Eventfd { signals: 0 })
    }

    pub(super) fn open_other(&mut self) -> i32 {
        self.add(File::Other)
    }

    fn add(&mut self, file: File) -> i32 {
        // A process that has closed its standard input has an eventfd 0.
        let fd = self.files.keys().next_back().map_or(0, |last| last.saturating_add(1));
        self.files.insert(fd, file);
        fd
    }

    pub(super) fn get(&self, fd: i32) -> Result<SimTrigger, Errno> {
        match self.files.get(&fd) {
            Some(File::Eventfd { .. }) => Ok(SimTrigger::new(fd, Arc::clone(&self.references))),
            Some(File::Other) => Err(Errno::EINVAL),
            None => Err(Errno::EBADF),
        }
    }

    pub(super) fn signal(&mut self, fd: i32) {
        if let Some(File::Eventfd { signals }) = self.files.get_mut(&fd) {
            *signals = signals.wrapping_add(1);
        }
    }

    pub(super) fn signals(&self, fd: i32) -> u64 {
        match self.files.get(&fd) {
            Some(File::Eventfd { signals }) => *signals,
            Some(File::Other) | None => 0,
        }
    }

    pub(super) fn references(&self) -> usize {
        self.references.load(Relaxed)
    }
}

/// A counted reference to a simulated eventfd.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Host};
///
/// let mut sim = Sim::new();
/// let fd = sim.eventfd();
/// let held = (sim.resolve(fd)?, sim.resolve(fd)?);
/// assert!(sim.leaks().is_some_and(|what| what.ends_with("refs 2")));
/// drop(held);
/// assert_eq!(sim.leaks(), None);
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Debug)]
pub struct SimTrigger {
    fd: i32,
    references: Arc<AtomicUsize>,
}

impl SimTrigger {
    fn new(fd: i32, references: Arc<AtomicUsize>) -> Self {
        references.fetch_add(1, Relaxed);
        Self { fd, references }
    }

    pub(super) fn again(&self) -> Self {
        Self::new(self.fd, Arc::clone(&self.references))
    }

    /// Returns the descriptor number of the eventfd.
    pub fn fd(&self) -> i32 {
        self.fd
    }
}

impl Drop for SimTrigger {
    fn drop(&mut self) {
        self.references.fetch_sub(1, Relaxed);
    }
}
