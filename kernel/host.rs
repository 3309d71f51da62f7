// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Linux as the engine's platform.
//!
//! What a step costs is its own: a trigger is replaced by a store and a wait for handlers in flight,
//! an interrupt is requested disabled while a request is prepared and enabled when it is committed.

use crate::slots::Tree;
use crate::sys::{Core, Interrupt, Restore, Retired, Trigger, Watch};
use core::mem::{replace, take};
use vfio_irq_engine::{Errno, Event, EventHost, Gate, Host, Kind, Refusal, Retention, Size, Slot};

/// What the device can do: read once when it is opened, since configuration space is slow.
#[derive(Clone, Copy, Default)]
pub(crate) struct Shape {
    pub(crate) msi: u32,
    pub(crate) msi_maskable: bool,
    pub(crate) msix: u32,
    pub(crate) msix_growing: bool,
}

/// What the module's parameters and the machine decide for every device.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) retention: Retention,
    /// Whether interrupts are offered to consumers in the kernel (irq bypass).
    pub(crate) bypass: bool,
}

/// The device's registers, as the request that is being carried out finds them.
enum Registers {
    /// Not looked at yet.
    Untouched,
    /// Reachable until the request is over.
    Reachable(Restore),
    /// Reachable, and the request has turned the index on: what the kernel wrote to the table then
    /// is still there.
    Written(Restore),
}

pub(crate) struct Linux {
    core: Core,
    /// `None` until the device is opened for the first time.
    shape: Option<Shape>,
    retention: Retention,
    bypass: bool,
    registers: Registers,
    retired: Retired,
    /// Signals of vectors that were detached since.
    gone_signals: u64,
}

impl Linux {
    pub(crate) fn new(core: Core, policy: Policy) -> Self {
        Self {
            core,
            shape: None,
            retention: policy.retention,
            bypass: policy.bypass,
            registers: Registers::Untouched,
            retired: Retired::default(),
            gone_signals: 0,
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// What the device can do; `None` until it is opened for the first time.
    pub(crate) fn shape(&self) -> Option<Shape> {
        self.shape
    }

    /// The same for requests, which come from whoever opened it.
    fn known(&self) -> Shape {
        self.shape.unwrap_or_default()
    }

    pub(crate) fn detach(&self) -> Retention {
        self.retention
    }

    pub(crate) fn gone_signals(&self) -> u64 {
        self.gone_signals
    }

    /// The device was opened.
    pub(crate) fn opened(&mut self) -> Shape {
        *self.shape.insert(self.core.shape())
    }

    /// The request is over: the device's power and decoding are as user space left them.
    #[inline]
    pub(crate) fn settle(&mut self) {
        match replace(&mut self.registers, Registers::Untouched) {
            Registers::Untouched => {}
            Registers::Reachable(restore) | Registers::Written(restore) => {
                self.core.restore(restore)
            }
        }
    }

    /// Watches that were taken down, to be dropped without the device's lock.
    pub(crate) fn retired(&mut self) -> Retired {
        take(&mut self.retired)
    }

    /// The device's registers are about to be touched: it must decode memory, and be in D0, until
    /// [`Linux::settle`].
    fn touch(&mut self) {
        if let Registers::Untouched = self.registers {
            self.registers = Registers::Reachable(self.core.ready());
        }
    }
}

impl Linux {
    /// Touches registers of the device for a moment. Where they are reachable, as they mostly are,
    /// that costs less than [`Linux::touch`].
    #[inline]
    fn reach<R>(&mut self, run: impl FnOnce(&Core) -> R) -> R {
        if let Registers::Untouched = self.registers {
            if let Some(_reachable) = self.core.reachable() {
                return run(&self.core);
            }
            self.touch();
        }
        run(&self.core)
    }

    /// Whether the device has lost a vector's entry of the table to a reset that the kernel did not
    /// see (`CONTRACT.md`, V-12).
    fn forgot(&mut self, kind: Kind, number: u32, gate: Gate) -> bool {
        kind == Kind::Msix && self.reach(|core| core.table_forgot(number, gate))
    }

    /// Offers the interrupt to consumers of the eventfd in the kernel, on machines that have any
    /// use for that.
    fn tie(&self, vector: &mut Vector) {
        if self.bypass {
            vector.interrupt.tie(&self.core);
        }
    }
}

/// An attached vector.
pub(crate) struct Vector {
    interrupt: Interrupt,
    /// Allocated by the request that prepared it, and to be freed if that fails.
    fresh: bool,
}

impl Vector {
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }
}

impl Host for Linux {
    type Trigger = Trigger;
    type Vector = Vector;
    type Watch = Watch;
    type Slots = Tree<Slot<Self>>;

    fn count(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Msi => self.known().msi,
            Kind::Msix => self.known().msix,
        }
    }

    fn growing(&self, kind: Kind) -> bool {
        kind == Kind::Msix && self.known().msix_growing
    }

    fn maskable(&self, kind: Kind) -> bool {
        match kind {
            Kind::Msi => self.known().msi_maskable,
            Kind::Msix => self.known().msix > 0,
        }
    }

    fn retention(&self) -> Retention {
        self.retention
    }

    fn resolve(&mut self, fd: i32) -> Result<Trigger, Errno> {
        Trigger::from_fd(fd)
    }

    fn enable(&mut self, kind: Kind, vectors: u32) -> Result<Size, Refusal> {
        self.touch();
        self.core.alloc_vectors(kind, vectors)?;
        self.registers = match replace(&mut self.registers, Registers::Untouched) {
            Registers::Reachable(restore) => Registers::Written(restore),
            other => other,
        };
        Ok(if self.growing(kind) { Size::Growing } else { Size::Fixed(vectors) })
    }

    fn disable(&mut self, _kind: Kind) {
        self.touch();
        self.core.free_vectors();
    }

    fn prepare(&mut self, kind: Kind, number: u32, trigger: Trigger) -> Result<Vector, Errno> {
        self.touch();
        let (irq, fresh) = match self.core.vector_irq(number) {
            Some(irq) => (irq, false),
            None if self.growing(kind) => (self.core.alloc_vector(number)?, true),
            None => return Err(Errno::EINVAL),
        };
        if kind == Kind::Msix && !fresh && !matches!(self.registers, Registers::Written(_)) {
            // A reset that the kernel did not see may have cleared the table since.
            self.core.rewrite_message(irq);
        }
        match Interrupt::request(&self.core, kind, number, irq, trigger) {
            Ok(interrupt) => Ok(Vector { interrupt, fresh }),
            Err(errno) => {
                if fresh {
                    self.core.free_vector(number, irq);
                }
                Err(errno)
            }
        }
    }

    fn abandon(&mut self, _kind: Kind, number: u32, vector: Vector) {
        self.touch();
        let (irq, fresh) = (vector.interrupt.irq(), vector.fresh);
        drop(vector);
        if fresh {
            self.core.free_vector(number, irq);
        }
    }

    fn start(&mut self, _kind: Kind, _number: u32, vector: &mut Vector, gate: Gate) {
        vector.fresh = false;
        if gate == Gate::Open {
            self.touch();
            vector.interrupt.open();
        }
        self.tie(vector);
    }

    fn is_settled(
        &mut self,
        kind: Kind,
        number: u32,
        vector: &Vector,
        trigger: &Trigger,
        gate: Gate,
    ) -> bool {
        vector.interrupt.targets(trigger) && !self.forgot(kind, number, gate)
    }

    fn untie(&mut self, vector: &mut Vector) {
        vector.interrupt.untie();
    }

    fn retarget(
        &mut self,
        kind: Kind,
        number: u32,
        vector: &mut Vector,
        trigger: Trigger,
        gate: Gate,
    ) {
        vector.interrupt.retarget(trigger);
        if self.forgot(kind, number, gate) {
            self.reach(|core| vector.interrupt.repair(core, number, gate));
        }
        self.tie(vector);
    }

    fn stop(&mut self, _kind: Kind, number: u32, vector: Vector, retention: Retention) {
        self.touch();
        let irq = vector.interrupt.irq();
        let signals = vector.interrupt.free();
        self.gone_signals = self.gone_signals.wrapping_add(signals);
        if retention == Retention::Free {
            self.core.free_vector(number, irq);
        }
    }

    fn set_gate(&mut self, _kind: Kind, vector: &mut Vector, gate: Gate) {
        self.reach(|_| match gate {
            Gate::Open => vector.interrupt.open(),
            Gate::Masked => vector.interrupt.close(),
        });
    }

    fn signal(&mut self, vector: &Vector) {
        vector.interrupt.signal();
    }

    fn watch(&mut self, number: u32, gate: Gate, fd: i32) -> Result<Watch, Errno> {
        self.core.watch(number, gate, fd)
    }

    fn watching(&self, watch: &Watch) -> bool {
        watch.is_armed()
    }

    fn unwatch(&mut self, watch: Watch) {
        // Taking a watch down waits for its work, which waits for the lock that is held here.
        self.retired.push(watch);
    }
}

impl EventHost for Linux {
    fn event_is_set(&self, event: Event) -> bool {
        self.core.event_is_set(event)
    }

    fn event_set(&mut self, event: Event, trigger: Option<Trigger>) -> Result<(), Errno> {
        self.core.event_set(event, trigger)
    }

    fn event_signal(&mut self, event: Event) {
        self.core.event_signal(event);
    }
}
