// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Eventfds that count their references and their signals.

use crate::Errno;
use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Clone, Copy, Debug)]
enum File {
    Eventfd { signals: u64 },
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Eventfds {
    files: RefCell<BTreeMap<i32, File>>,
    references: Rc<Cell<usize>>,
}

impl Eventfds {
    pub(super) fn open(&self) -> i32 {
        self.add(File::Eventfd { signals: 0 })
    }

    pub(super) fn open_other(&self) -> i32 {
        self.add(File::Other)
    }

    fn add(&self, file: File) -> i32 {
        let mut files = self.files.borrow_mut();
        let fd = files.keys().next_back().map_or(3, |last| last.saturating_add(1));
        files.insert(fd, file);
        fd
    }

    pub(super) fn get(&self, fd: i32) -> Result<SimTrigger, Errno> {
        match self.files.borrow().get(&fd) {
            Some(File::Eventfd { .. }) => Ok(SimTrigger::new(fd, Rc::clone(&self.references))),
            Some(File::Other) => Err(Errno::EINVAL),
            None => Err(Errno::EBADF),
        }
    }

    pub(super) fn signal(&self, fd: i32) {
        if let Some(File::Eventfd { signals }) = self.files.borrow_mut().get_mut(&fd) {
            *signals = signals.wrapping_add(1);
        }
    }

    pub(super) fn signals(&self, fd: i32) -> u64 {
        match self.files.borrow().get(&fd) {
            Some(File::Eventfd { signals }) => *signals,
            Some(File::Other) | None => 0,
        }
    }

    pub(super) fn references(&self) -> usize {
        self.references.get()
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
    references: Rc<Cell<usize>>,
}

impl SimTrigger {
    fn new(fd: i32, references: Rc<Cell<usize>>) -> Self {
        references.set(references.get().wrapping_add(1));
        Self { fd, references }
    }

    pub(super) fn again(&self) -> Self {
        Self::new(self.fd, Rc::clone(&self.references))
    }

    /// Returns the descriptor number of the eventfd.
    pub fn fd(&self) -> i32 {
        self.fd
    }
}

impl Drop for SimTrigger {
    fn drop(&mut self) {
        self.references.set(self.references.get().wrapping_sub(1));
    }
}
