// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What each step is on the simulated platform.

use super::pci::Pci;
use super::{Line, Sim, SimSlots, SimTrigger, SimVector};
use crate::{Errno, Event, EventHost, Gate, Host, Kind, LineHost, Refusal, Size};

impl Host for Sim {
    type Trigger = SimTrigger;
    type Vector = SimVector;
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

    fn resolve(&mut self, fd: i32) -> Result<SimTrigger, Errno> {
        self.steps.take()?;
        self.eventfds.get(fd)
    }

    fn enable(&mut self, kind: Kind, vectors: u32) -> Result<Size, Refusal> {
        self.promise(self.enabled.is_none() && vectors > 0, "enable while enabled, or of nothing");
        self.steps.take()?;
        let there = self.shape.interrupts;
        if there < vectors {
            // Linux allocates what there is, and gives it back.
            self.pci.with_memory(Pci::free);
            return Err(if there == 0 { Errno::ENOSPC.into() } else { Refusal::TooFew(there) });
        }
        self.pci.with_memory(Pci::alloc);
        self.enabled = Some(kind);
        self.allocated = (0..vectors).collect();
        Ok(if self.growing(kind) { Size::Growing } else { Size::Fixed(vectors) })
    }

    fn disable(&mut self, kind: Kind) {
        let kept = self.enabled == Some(kind) && self.handlers.is_empty();
        self.promise(kept, "disable while a vector is attached, or of another kind");
        self.pci.with_memory(Pci::free);
        self.enabled = None;
        self.allocated.clear();
        self.reclaimed.clear();
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
        self.pci.with_memory(Pci::alloc);
        self.allocated.insert(n);
        self.handlers.insert(n, (trigger.again(), Gate::Masked, false));
        Ok(SimVector {
            number: n,
            trigger,
            fresh,
            running: false,
            gate: Gate::Masked,
            offered: false,
        })
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
        self.pci.with_memory(Pci::write_table);
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
        self.promise(!vector.offered, "retarget of a vector that is offered to irq bypass");
        if let Some(handler) = self.handlers.get_mut(&n) {
            handler.0 = trigger.again();
        }
        vector.trigger = trigger;
    }

    fn has_irq_bypass(&self) -> bool {
        true
    }

    fn unregister_irq_bypass(&mut self, vector: &mut SimVector) {
        vector.offered = false;
    }

    fn register_irq_bypass(&mut self, vector: &mut SimVector) {
        self.promise(vector.running, "irq bypass of a vector that was not started");
        vector.offered = true;
    }

    fn stop(&mut self, _: Kind, n: u32, vector: SimVector) {
        self.promise(vector.running && vector.number == n, "stop of a vector that was not started");
        self.pci.with_memory(Pci::write_table);
        self.handlers.remove(&n);
    }

    fn reclaim(&mut self, kind: Kind, n: u32) -> bool {
        let idle = self.enabled == Some(kind) && !self.handlers.contains_key(&n);
        self.promise(idle && self.growing(kind), "reclaim of a vector in use");
        let had = self.allocated.remove(&n);
        if had {
            self.reclaimed.insert(n);
        }
        had
    }

    fn set_gate(&mut self, _: Kind, number: u32, vector: &mut SimVector, gate: Gate) {
        self.promise(vector.gate != gate, "set_gate without a change");
        self.pci.with_memory(Pci::write_table);
        vector.gate = gate;
        if let Some(handler) = self.handlers.get_mut(&number) {
            handler.1 = gate;
        }
        self.settle(number);
    }

    fn signal(&mut self, vector: &SimVector) {
        self.eventfds.signal(vector.fd());
    }
}

impl LineHost for Sim {
    fn line_present(&self) -> bool {
        self.shape.pin
    }

    fn line_enable(&mut self, trigger: Option<SimTrigger>) -> Result<(), Errno> {
        self.promise(!self.line.on && self.enabled.is_none(), "line_enable while something is on");
        self.steps.take()?;
        if !self.shape.connected {
            return Err(Errno::ENODEV);
        }
        self.line = Line { on: true, masked: self.pci.command.disintx, trigger, armed: None };
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

    fn line_arm(&mut self, fd: i32) -> Result<(), Errno> {
        self.steps.take()?;
        let armed = self.eventfds.get(fd)?;
        if self.line.armed.is_some() {
            return Err(Errno::EBUSY);
        }
        self.line.armed = Some(armed);
        Ok(())
    }

    fn line_disarm(&mut self) {
        self.line.armed = None;
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
