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
mod slots;

pub use eventfd::{SimTrigger, SimWatch};
pub use slots::SimSlots;

use crate::{Errno, Event, EventHost, Gate, Host, Kind, LineHost, Refusal, Retention, Size};
use eventfd::Eventfds;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::string::String;

/// What the simulated device has; [`Sim::with`] takes it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Vectors of MSI; 0 for none.
    pub msi: u32,
    /// Entries of the MSI-X table; 0 for none.
    pub msix: u32,
    /// Whether MSI-X vectors can be added while others run.
    pub growing: bool,
    /// Whether MSI has mask bits.
    pub msi_maskable: bool,
    /// Whether the device has an interrupt pin.
    pub pin: bool,
    /// Whether the pin leads to an interrupt.
    pub connected: bool,
    /// Interrupts that the machine has left.
    pub interrupts: u32,
    /// What a detached vector's interrupt does.
    pub retention: Retention,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            msi: 8,
            msix: 64,
            growing: true,
            msi_maskable: true,
            pin: true,
            connected: true,
            interrupts: 1024,
            retention: Retention::Keep,
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
    gate: Gate,
}

impl SimVector {
    /// The descriptor number of the eventfd that it signals.
    pub fn fd(&self) -> i32 {
        self.trigger.fd()
    }
}

#[derive(Debug, Default)]
struct Line {
    on: bool,
    masked: bool,
    trigger: Option<SimTrigger>,
}

/// The simulated platform.
#[derive(Debug)]
pub struct Sim {
    shape: Shape,
    eventfds: Rc<Eventfds>,
    steps: Rc<slots::Steps>,
    slot_count: Rc<core::cell::Cell<usize>>,
    enabled: Option<Kind>,
    /// Vectors with an interrupt of the machine's.
    allocated: BTreeSet<u32>,
    /// Vectors with a handler: what a raise reaches. The flag says that the vector is open.
    handlers: BTreeMap<u32, (SimTrigger, Gate, bool)>,
    pending: BTreeSet<u32>,
    line: Line,
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
        Self::with(Shape::default())
    }

    /// A device of another shape.
    pub fn with(shape: Shape) -> Self {
        Self {
            shape,
            eventfds: Rc::default(),
            steps: Rc::default(),
            slot_count: Rc::default(),
            enabled: None,
            allocated: BTreeSet::new(),
            handlers: BTreeMap::new(),
            pending: BTreeSet::new(),
            line: Line::default(),
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

    /// The device raises a vector.
    pub fn raise(&mut self, number: u32) {
        match self.handlers.get(&number) {
            Some((trigger, Gate::Open, true)) => self.eventfds.signal(trigger.fd()),
            Some(_) => {
                self.pending.insert(number);
            }
            None => self.lost = self.lost.wrapping_add(1),
        }
    }

    /// The device pulls its line: masked by the very signal, as INTx is.
    pub fn pull(&mut self) {
        if self.line.on && !self.line.masked {
            self.line.masked = true;
            self.line_signal();
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
            .map(|(n, (trigger, gate, running))| (*n, (trigger.fd(), *gate, *running)))
            .collect();
        std::format!(
            "{:?} {:?} {:?} {:?} line {} {} {:?} events {:?} {:?} slots {} refs {}",
            self.enabled,
            self.allocated,
            handlers,
            self.pending,
            self.line.on,
            self.line.masked,
            self.line.trigger.as_ref().map(SimTrigger::fd),
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
            && self.eventfds.references() == 0;
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
        if let Some((trigger, Gate::Open, true)) = self.handlers.get(&number) {
            if self.pending.remove(&number) {
                self.eventfds.signal(trigger.fd());
            }
        }
    }
}

impl Host for Sim {
    type Trigger = SimTrigger;
    type Vector = SimVector;
    type Watch = SimWatch;
    type Slots = SimSlots<crate::Slot<Self>>;

    fn count(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Msi => self.shape.msi,
            Kind::Msix => self.shape.msix,
        }
    }

    fn growing(&self, kind: Kind) -> bool {
        kind == Kind::Msix && self.shape.growing && self.shape.msix > 0
    }

    fn maskable(&self, kind: Kind) -> bool {
        match kind {
            Kind::Msi => self.shape.msi > 0 && self.shape.msi_maskable,
            Kind::Msix => self.shape.msix > 0,
        }
    }

    fn retention(&self) -> Retention {
        self.shape.retention
    }

    fn resolve(&mut self, fd: i32) -> Result<SimTrigger, Errno> {
        self.steps.take()?;
        self.eventfds.get(fd)
    }

    fn enable(&mut self, kind: Kind, vectors: u32) -> Result<Size, Refusal> {
        self.promise(self.enabled.is_none() && vectors > 0, "enable while enabled, or of nothing");
        self.steps.take()?;
        match self.shape.interrupts {
            0 => return Err(Errno::ENOSPC.into()),
            there if there < vectors => return Err(Refusal::TooFew(there)),
            _ => {}
        }
        self.enabled = Some(kind);
        self.allocated = (0..vectors).collect();
        Ok(if self.growing(kind) { Size::Growing } else { Size::Fixed(vectors) })
    }

    fn disable(&mut self, kind: Kind) {
        let kept = self.enabled == Some(kind) && self.handlers.is_empty();
        self.promise(kept, "disable while a vector is attached, or of another kind");
        self.enabled = None;
        self.allocated.clear();
        self.pending.clear();
    }

    fn prepare(&mut self, _: Kind, n: u32, trigger: SimTrigger) -> Result<SimVector, Errno> {
        self.promise(self.enabled.is_some(), "prepare while disabled");
        self.promise(!self.handlers.contains_key(&n), "prepare of an attached vector");
        self.steps.take()?;
        let fresh = !self.allocated.contains(&n);
        if fresh && self.allocated.len() >= self.shape.interrupts as usize {
            return Err(Errno::ENOSPC);
        }
        // The second thing that may fail: the handler. The first is then undone here.
        self.steps.take()?;
        self.allocated.insert(n);
        self.handlers.insert(n, (trigger.again(), Gate::Masked, false));
        Ok(SimVector { number: n, trigger, fresh, running: false, gate: Gate::Masked })
    }

    fn abandon(&mut self, _: Kind, n: u32, vector: SimVector) {
        self.promise(!vector.running && vector.number == n, "abandon of a started vector");
        self.handlers.remove(&n);
        if vector.fresh {
            self.allocated.remove(&n);
        }
    }

    fn start(&mut self, _: Kind, n: u32, vector: &mut SimVector, gate: Gate) {
        self.promise(!vector.running, "start of a started vector");
        vector.running = true;
        vector.fresh = false;
        vector.gate = gate;
        self.handlers.insert(n, (vector.trigger.again(), gate, true));
        self.settle(n);
    }

    fn is_settled(
        &mut self,
        _: Kind,
        _: u32,
        vector: &SimVector,
        trigger: &SimTrigger,
        _: Gate,
    ) -> bool {
        vector.trigger.fd() == trigger.fd()
    }

    fn retarget(&mut self, _: Kind, n: u32, vector: &mut SimVector, trigger: SimTrigger, _: Gate) {
        self.promise(vector.running, "retarget of a vector that was not started");
        if let Some(handler) = self.handlers.get_mut(&n) {
            handler.0 = trigger.again();
        }
        vector.trigger = trigger;
    }

    fn stop(&mut self, _: Kind, n: u32, vector: SimVector, retention: Retention) {
        self.promise(vector.running && vector.number == n, "stop of a vector that was not started");
        self.handlers.remove(&n);
        if retention == Retention::Free {
            self.allocated.remove(&n);
        }
    }

    fn set_gate(&mut self, _: Kind, vector: &mut SimVector, gate: Gate) {
        self.promise(vector.gate != gate, "set_gate without a change");
        vector.gate = gate;
        let number = vector.number;
        if let Some(handler) = self.handlers.get_mut(&number) {
            handler.1 = gate;
        }
        self.settle(number);
    }

    fn signal(&mut self, vector: &SimVector) {
        self.eventfds.signal(vector.fd());
    }

    fn watch(&mut self, _: u32, _: Gate, fd: i32) -> Result<SimWatch, Errno> {
        self.steps.take()?;
        Ok(SimWatch::new(self.eventfds.get(fd)?))
    }

    fn unwatch(&mut self, watch: SimWatch) {
        drop(watch);
    }
}

impl LineHost for Sim {
    fn line_present(&self) -> bool {
        self.shape.pin
    }

    fn line_enable(&mut self) -> Result<(), Errno> {
        self.promise(!self.line.on && self.enabled.is_none(), "line_enable while something is on");
        self.steps.take()?;
        if !self.shape.connected {
            return Err(Errno::ENODEV);
        }
        self.line.on = true;
        Ok(())
    }

    fn line_disable(&mut self) {
        self.promise(self.line.on, "line_disable while off");
        self.line = Line::default();
    }

    fn line_target(&mut self, trigger: Option<SimTrigger>) {
        self.line.trigger = trigger;
    }

    fn line_set_gate(&mut self, gate: Gate) {
        self.line.masked = gate == Gate::Masked;
    }

    fn line_signal(&mut self) {
        if let Some(trigger) = &self.line.trigger {
            self.eventfds.signal(trigger.fd());
        }
    }

    fn line_watch(&mut self, fd: i32) -> Result<SimWatch, Errno> {
        self.steps.take()?;
        Ok(SimWatch::new(self.eventfds.get(fd)?))
    }
}

impl EventHost for Sim {
    fn event_is_set(&self, event: Event) -> bool {
        self.event(event).is_some()
    }

    fn event_set(&mut self, event: Event, trigger: Option<SimTrigger>) -> Result<(), Errno> {
        if trigger.is_some() {
            self.steps.take()?;
        }
        match event {
            Event::Err => self.err = trigger,
            Event::Req => self.req = trigger,
        }
        Ok(())
    }

    fn event_signal(&mut self, event: Event) {
        if let Some(fd) = self.event(event).map(SimTrigger::fd) {
            self.eventfds.signal(fd);
        }
    }
}
