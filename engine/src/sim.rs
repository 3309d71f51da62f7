// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A platform that exists only in memory: deterministic, counts every resource, and fails the n-th
//! step on demand. A tool for tests; no device is behind it.
//!
//! ```
//! use vfio_irq_engine::sim::Sim;
//! use vfio_irq_engine::{Errno, Host};
//!
//! let mut sim = Sim::new();
//! let fd = sim.eventfd();
//! sim.fail_step(0, Errno::ENOMEM);
//! assert!(matches!(sim.resolve(fd), Err(Errno::ENOMEM)));
//! assert!(sim.resolve(fd).is_ok());
//! assert_eq!(sim.leaks(), None);
//! ```

mod eventfd;
mod host;
mod pci;
mod slots;

pub use eventfd::SimTrigger;
pub use pci::Command;
pub use slots::SimSlots;

use crate::{Errno, Event, IntxHost, Mask, MsiType};
use eventfd::Eventfds;
use pci::Pci;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::string::String;

/// What the simulated device has; [`Sim::with`] takes it.
///
/// ```
/// use vfio_irq_engine::sim::{IrqCaps, Sim};
/// use vfio_irq_engine::{Host, MsiType};
///
/// // A device with the largest table, on a machine that is short of interrupts.
/// let mut sim = Sim::with(IrqCaps { msix: 2048, interrupts: 16, ..IrqCaps::default() });
/// assert!(sim.enable(MsiType::Msix, 17).is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct IrqCaps {
    /// Vectors of MSI; 0 for none.
    pub msi: u32,
    /// Entries of the MSI-X table; 0 for none.
    pub msix: u32,
    /// Whether MSI-X vectors can be added while others run.
    pub dynamic: bool,
    /// Whether MSI has mask bits.
    pub msi_maskable: bool,
    /// Whether the device has an interrupt pin.
    pub pin: bool,
    /// Whether the pin leads to an interrupt.
    pub connected: bool,
    /// Interrupts that the machine has left.
    pub interrupts: u32,
}

impl Default for IrqCaps {
    fn default() -> Self {
        Self {
            msi: 8,
            msix: 64,
            dynamic: true,
            msi_maskable: true,
            pin: true,
            connected: true,
            interrupts: 1024,
        }
    }
}

/// An attached vector, as the simulated machine sees it.
#[derive(Debug)]
pub struct SimVector {
    number: u32,
    trigger: SimTrigger,
    /// Allocated by the request that prepared it.
    fresh: bool,
    running: bool,
    mask: Mask,
    /// Registered as a bypass producer.
    offered: bool,
}

impl SimVector {
    /// The descriptor number of the eventfd that it signals.
    pub fn fd(&self) -> i32 {
        self.trigger.fd()
    }
}

#[derive(Debug, Default)]
struct Intx {
    on: bool,
    masked: bool,
    trigger: Option<SimTrigger>,
    /// The eventfd that unmasks it.
    armed: Option<SimTrigger>,
}

/// The simulated platform.
#[derive(Debug)]
pub struct Sim {
    shape: IrqCaps,
    eventfds: Rc<Eventfds>,
    steps: Rc<slots::Steps>,
    slot_count: Rc<core::cell::Cell<usize>>,
    pci: Pci,
    enabled: Option<MsiType>,
    /// Vectors with an interrupt of the machine's.
    allocated: BTreeSet<u32>,
    /// Vectors whose interrupt [`Host::reclaim`](crate::Host::reclaim) gave back.
    reclaimed: BTreeSet<u32>,
    /// Vectors with a handler: what a raise reaches. The flag says that the vector is open.
    handlers: BTreeMap<u32, (SimTrigger, Mask, bool)>,
    pending: BTreeSet<u32>,
    line: Intx,
    err: Option<SimTrigger>,
    req: Option<SimTrigger>,
    lost: u64,
    log: std::vec::Vec<String>,
}

impl Default for Sim {
    fn default() -> Self {
        Self::new()
    }
}

impl Sim {
    /// A device with 8 MSI vectors, 64 MSI-X vectors and a pin.
    pub fn new() -> Self {
        Self::with(IrqCaps::default())
    }

    /// A device of another shape.
    pub fn with(shape: IrqCaps) -> Self {
        Self {
            shape,
            eventfds: Rc::default(),
            steps: Rc::default(),
            slot_count: Rc::default(),
            pci: Pci::default(),
            enabled: None,
            allocated: BTreeSet::new(),
            reclaimed: BTreeSet::new(),
            handlers: BTreeMap::new(),
            pending: BTreeSet::new(),
            line: Intx::default(),
            err: None,
            req: None,
            lost: 0,
            log: std::vec::Vec::new(),
        }
    }

    /// An empty map for the engine, which fails and is counted with everything else.
    pub fn slots<S: Default>(&self) -> SimSlots<S> {
        SimSlots::new(Rc::clone(&self.steps), Rc::clone(&self.slot_count))
    }

    /// A new eventfd; its descriptor.
    pub fn eventfd(&mut self) -> i32 {
        self.eventfds.open()
    }

    /// A descriptor that is open and no eventfd: using it is `EINVAL`.
    pub fn other_file(&mut self) -> i32 {
        self.eventfds.open_other()
    }

    /// How often the eventfd was signalled.
    pub fn signals(&self, fd: i32) -> u64 {
        self.eventfds.signals(fd)
    }

    /// Interrupts that nobody was told of.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Makes the n-th fallible step from here (counting from 0) fail with this error, once.
    pub fn fail_step(&mut self, n: u64, errno: Errno) {
        self.steps.arm(n, errno);
    }

    /// Whether the failure that [`Sim::fail_step`] asked for is still to come; disarms it.
    pub fn disarm(&mut self) -> bool {
        self.steps.disarm()
    }

    /// Changes how many interrupts the machine has in all.
    pub fn set_interrupts(&mut self, interrupts: u32) {
        self.shape.interrupts = interrupts;
    }

    /// What the guest finds in its command register.
    pub fn command(&self) -> Command {
        self.pci.command
    }

    /// The guest writes its command register.
    pub fn set_command(&mut self, command: Command) {
        self.pci.command = command;
    }

    /// User space signals an eventfd. If it is armed to unmask the line, the line is unmasked
    /// (`CONTRACT.md`, X-02).
    pub fn fire(&mut self, fd: i32) {
        if self.line.armed.as_ref().is_some_and(|armed| armed.fd() == fd) {
            self.line.masked = false;
        }
    }

    /// The device raises a vector.
    pub fn raise(&mut self, number: u32) {
        match self.handlers.get(&number) {
            Some((trigger, Mask::Unmasked, true)) => self.eventfds.signal(trigger.fd()),
            Some(_) => {
                self.pending.insert(number);
            }
            None => self.lost = self.lost.wrapping_add(1),
        }
    }

    /// The device pulls its line: masked by the very signal, as INTx is.
    pub fn raise_intx(&mut self) {
        if self.line.on && !self.line.masked {
            self.line.masked = true;
            self.intx_signal();
        }
    }

    /// Whether the vector has an interrupt waiting behind its mask.
    pub fn pending(&self, number: u32) -> bool {
        self.pending.contains(&number)
    }

    /// Vectors with an interrupt of the machine's.
    pub fn allocated(&self) -> usize {
        self.allocated.len()
    }

    /// All that user space could notice of interrupts, as text: two equal texts, nothing changed.
    pub fn visible(&self) -> String {
        let handlers: BTreeMap<_, _> = self
            .handlers
            .iter()
            .map(|(n, (trigger, mask, running))| (*n, (trigger.fd(), *mask, *running)))
            .collect();
        // What the machine took back of detached vectors is not for user space to see (B-04).
        let allocated: BTreeSet<_> = self.allocated.union(&self.reclaimed).collect();
        std::format!(
            "{:?} {:?} {:?} {:?} {:?} line {} {} {:?} {:?} events {:?} {:?} slots {} refs {}",
            self.pci.command,
            self.enabled,
            allocated,
            handlers,
            self.pending,
            self.line.on,
            self.line.masked,
            self.line.trigger.as_ref().map(SimTrigger::fd),
            self.line.armed.as_ref().map(SimTrigger::fd),
            self.err.as_ref().map(SimTrigger::fd),
            self.req.as_ref().map(SimTrigger::fd),
            self.slot_count.get(),
            self.eventfds.references(),
        )
    }

    /// What is still held although everything should have been given back; `None`: nothing.
    pub fn leaks(&self) -> Option<String> {
        let clean = self.enabled.is_none()
            && self.allocated.is_empty()
            && self.handlers.is_empty()
            && !self.line.on
            && self.line.trigger.is_none()
            && self.slot_count.get() == 0
            && self.eventfds.references() == 0
            && self.pci.lost_writes == 0;
        (!clean).then(|| self.visible())
    }

    /// Steps that the engine took out of turn; empty as long as its promises hold.
    pub fn broken_promises(&self) -> &[String] {
        &self.log
    }

    fn event(&self, event: Event) -> Option<&SimTrigger> {
        match event {
            Event::Err => self.err.as_ref(),
            Event::Req => self.req.as_ref(),
        }
    }

    fn promise(&mut self, kept: bool, what: &str) {
        if !kept {
            self.log.push(String::from(what));
        }
    }

    fn settle(&mut self, number: u32) {
        if let Some((trigger, Mask::Unmasked, true)) = self.handlers.get(&number) {
            if self.pending.remove(&number) {
                self.eventfds.signal(trigger.fd());
            }
        }
    }
}
