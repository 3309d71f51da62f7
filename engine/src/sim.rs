// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A platform in memory, for tests. The platform is deterministic, counts every resource, and fails
//! the n-th step on demand.
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
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use eventfd::Eventfds;
use pci::Pci;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::sync::Arc;

/// The interrupt capabilities of the simulated device and its host. [`Sim::with`] takes them.
///
/// ```
/// use vfio_irq_engine::sim::{IrqCaps, Sim};
/// use vfio_irq_engine::{Host, MsiType};
///
/// // The largest table, on a host with few interrupts.
/// let mut sim = Sim::with(IrqCaps { msix: 2048, interrupts: 16, ..IrqCaps::default() });
/// assert!(sim.enable(MsiType::Msix, 17).is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct IrqCaps {
    /// Number of MSI vectors; 0 without the capability.
    pub msi: u32,
    /// Number of MSI-X table entries; 0 without the capability.
    pub msix: u32,
    /// MSI-X vectors can be added while others are in use.
    pub dynamic: bool,
    /// MSI has mask bits.
    pub msi_maskable: bool,
    /// The device has an interrupt pin.
    pub pin: bool,
    /// The pin has a routed interrupt.
    pub connected: bool,
    /// Interrupts that the host can allocate.
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

/// A vector that the simulated host has prepared or started.
#[derive(Debug)]
pub struct SimVector {
    number: u32,
    trigger: SimTrigger,
    /// The request that prepared the vector allocated its interrupt.
    newly_allocated: bool,
    running: bool,
    mask: Mask,
}

impl SimVector {
    /// Returns the descriptor number of the eventfd that the vector signals.
    pub fn fd(&self) -> i32 {
        self.trigger.fd()
    }
}

#[derive(Debug, Default)]
struct Intx {
    on: bool,
    masked: bool,
    trigger: Option<SimTrigger>,
    /// The resample eventfd.
    armed: Option<SimTrigger>,
}

/// The simulated platform.
#[derive(Debug)]
pub struct Sim {
    caps: IrqCaps,
    eventfds: Eventfds,
    steps: Arc<slots::Steps>,
    slot_count: Arc<AtomicUsize>,
    pci: Pci,
    enabled: Option<MsiType>,
    /// Vectors with an allocated interrupt.
    allocated: BTreeSet<u32>,
    /// Vectors whose interrupt [`Host::reclaim`](crate::Host::reclaim) freed.
    reclaimed: BTreeSet<u32>,
    /// Vectors with a handler: its trigger, its mask, and true if the vector is started.
    handlers: BTreeMap<u32, (SimTrigger, Mask, bool)>,
    pending: BTreeSet<u32>,
    /// Vectors that are registered as irq bypass producers, with their eventfds.
    offered: BTreeMap<u32, i32>,
    intx: Intx,
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
    /// Returns a device with 8 MSI vectors, 64 MSI-X vectors and a pin.
    pub fn new() -> Self {
        Self::with(IrqCaps::default())
    }

    /// Returns a device with these capabilities.
    pub fn with(caps: IrqCaps) -> Self {
        Self {
            caps,
            eventfds: Eventfds::default(),
            steps: Arc::default(),
            slot_count: Arc::default(),
            pci: Pci::default(),
            enabled: None,
            allocated: BTreeSet::new(),
            reclaimed: BTreeSet::new(),
            handlers: BTreeMap::new(),
            pending: BTreeSet::new(),
            offered: BTreeMap::new(),
            intx: Intx::default(),
            err: None,
            req: None,
            lost: 0,
            log: std::vec::Vec::new(),
        }
    }

    /// Returns an empty map for the engine. Its steps can fail, and its slots are counted.
    pub fn slots<S: Default>(&self) -> SimSlots<S> {
        SimSlots::new(Arc::clone(&self.steps), Arc::clone(&self.slot_count))
    }

    /// Opens a new eventfd. Returns its descriptor.
    pub fn eventfd(&mut self) -> i32 {
        self.eventfds.open()
    }

    /// Opens a file that is not an eventfd. Returns its descriptor, which `resolve` refuses with
    /// EINVAL.
    pub fn other_file(&mut self) -> i32 {
        self.eventfds.open_other()
    }

    /// Returns the number of signals of the eventfd.
    pub fn signals(&self, fd: i32) -> u64 {
        self.eventfds.signals(fd)
    }

    /// Returns the number of interrupts that signalled no eventfd.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Makes the `n`-th fallible step from now on fail with this error, once. `n` counts from 0.
    pub fn fail_step(&mut self, n: u64, errno: Errno) {
        self.steps.arm(n, errno);
    }

    /// Cancels the failure that [`Sim::fail_step`] requested. Returns true if it had not happened
    /// yet.
    pub fn disarm(&mut self) -> bool {
        self.steps.disarm()
    }

    /// Sets the number of interrupts that the host can allocate.
    pub fn set_interrupts(&mut self, interrupts: u32) {
        self.caps.interrupts = interrupts;
    }

    /// Returns the command register as the guest reads it.
    pub fn command(&self) -> Command {
        self.pci.command
    }

    /// Writes the command register, as the guest does.
    pub fn set_command(&mut self, command: Command) {
        self.pci.command = command;
    }

    /// Signals an eventfd, as user space does. If it is the armed resample eventfd, INTx is
    /// unmasked (`CONTRACT.md`, X-02).
    pub fn signal_eventfd(&mut self, fd: i32) {
        if self.intx.armed.as_ref().is_some_and(|armed| armed.fd() == fd) {
            self.intx.masked = false;
        }
    }

    /// Raises a vector, as the device does.
    pub fn raise(&mut self, number: u32) {
        match self.handlers.get(&number) {
            Some((trigger, Mask::Unmasked, true)) => self.eventfds.signal(trigger.fd()),
            Some(_) => {
                self.pending.insert(number);
            }
            None => self.lost = self.lost.wrapping_add(1),
        }
    }

    /// Asserts INTx, as the device does. The signal masks INTx.
    pub fn raise_intx(&mut self) {
        if self.intx.on && !self.intx.masked {
            self.intx.masked = true;
            self.intx_signal();
        }
    }

    /// Returns true if the device holds an interrupt of this masked vector.
    pub fn pending(&self, number: u32) -> bool {
        self.pending.contains(&number)
    }

    /// Returns the vectors that have a handler and are not masked.
    pub fn unmasked(&self) -> std::vec::Vec<u32> {
        let unmasked =
            |(_, mask, running): &(SimTrigger, Mask, bool)| *mask == Mask::Unmasked && *running;
        self.handlers.iter().filter(|(_, handler)| unmasked(handler)).map(|(n, _)| *n).collect()
    }

    /// Returns the vectors that are registered as irq bypass producers, each with the descriptor of its
    /// eventfd.
    pub fn offered(&self) -> std::vec::Vec<(u32, i32)> {
        self.offered.iter().map(|(number, fd)| (*number, *fd)).collect()
    }

    /// Returns the number of vectors with an allocated interrupt.
    pub fn allocated(&self) -> usize {
        self.allocated.len()
    }

    /// Returns all interrupt state that user space can observe, as text. If two texts are equal,
    /// nothing has changed.
    pub fn visible(&self) -> String {
        let handlers: BTreeMap<_, _> = self
            .handlers
            .iter()
            .map(|(n, (trigger, mask, running))| (*n, (trigger.fd(), *mask, *running)))
            .collect();
        // User space cannot observe that the host freed interrupts of detached vectors (B-04).
        let allocated: BTreeSet<_> = self.allocated.union(&self.reclaimed).collect();
        std::format!(
            "{:?} {:?} {:?} {:?} {:?} bypass {:?} INTx {} {} {:?} {:?} events {:?} {:?} slots {} refs {}",
            self.pci.command,
            self.enabled,
            allocated,
            handlers,
            self.pending,
            self.offered,
            self.intx.on,
            self.intx.masked,
            self.intx.trigger.as_ref().map(SimTrigger::fd),
            self.intx.armed.as_ref().map(SimTrigger::fd),
            self.err.as_ref().map(SimTrigger::fd),
            self.req.as_ref().map(SimTrigger::fd),
            self.slot_count.load(Relaxed),
            self.eventfds.references(),
        )
    }

    /// Returns the state as text if any resource is still held, and `None` if all are released.
    pub fn leaks(&self) -> Option<String> {
        let clean = self.enabled.is_none()
            && self.allocated.is_empty()
            && self.handlers.is_empty()
            && !self.intx.on
            && self.intx.trigger.is_none()
            && self.slot_count.load(Relaxed) == 0
            && self.eventfds.references() == 0
            && self.pci.lost_writes == 0;
        (!clean).then(|| self.visible())
    }

    /// Returns the steps that the engine took out of turn. The list is empty if the engine keeps
    /// the guarantees of [`Host`](crate::Host).
    pub fn violations(&self) -> &[String] {
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

    fn signal_pending(&mut self, number: u32) {
        if let Some((trigger, Mask::Unmasked, true)) = self.handlers.get(&number) {
            if self.pending.remove(&number) {
                self.eventfds.signal(trigger.fd());
            }
        }
    }
}
