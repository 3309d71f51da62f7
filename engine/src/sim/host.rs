// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The steps of the engine on the simulated platform.

use super::pci::Pci;
use super::{Intx, Sim, SimSlots, SimTrigger, SimVector};
use crate::{Errno, Event, EventHost, Host, IntxHost, Mask, MsiType, Refusal, Size};

impl Host for Sim {
    type Trigger = SimTrigger;
    type Vector = SimVector;
    type Slots = SimSlots<crate::Slot<Self>>;

    fn count(&self, msi_type: MsiType) -> u32 {
        match msi_type {
            MsiType::Msi => self.caps.msi,
            MsiType::Msix => self.caps.msix,
        }
    }

    fn dynamic(&self, msi_type: MsiType) -> bool {
        msi_type == MsiType::Msix && self.caps.dynamic && self.caps.msix > 0
    }

    fn maskable(&self, msi_type: MsiType) -> bool {
        match msi_type {
            MsiType::Msi => self.caps.msi > 0 && self.caps.msi_maskable,
            MsiType::Msix => self.caps.msix > 0,
        }
    }

    fn resolve(&mut self, fd: i32) -> Result<SimTrigger, Errno> {
        self.steps.take()?;
        self.eventfds.get(fd)
    }

    fn enable(&mut self, msi_type: MsiType, vectors: u32) -> Result<Size, Refusal> {
        self.promise(self.enabled.is_none() && vectors > 0, "enable while enabled, or of nothing");
        self.steps.take()?;
        let available = self.caps.interrupts;
        if available < vectors {
            // Linux allocates the vectors that it has, and frees them again.
            self.pci.with_memory(Pci::free);
            return Err(if available == 0 {
                Errno::ENOSPC.into()
            } else {
                Refusal::TooFew(available)
            });
        }
        self.pci.with_memory(Pci::alloc);
        self.enabled = Some(msi_type);
        self.allocated = (0..vectors).collect();
        Ok(if self.dynamic(msi_type) { Size::Dynamic } else { Size::Fixed(vectors) })
    }

    fn disable(&mut self, msi_type: MsiType) {
        let kept = self.enabled == Some(msi_type) && self.handlers.is_empty();
        self.promise(kept, "disable while a vector is attached, or of another msi_type");
        self.pci.with_memory(Pci::free);
        self.enabled = None;
        self.allocated.clear();
        self.reclaimed.clear();
        self.pending.clear();
    }

    fn prepare(&mut self, _: MsiType, n: u32, trigger: SimTrigger) -> Result<SimVector, Errno> {
        self.promise(self.enabled.is_some(), "prepare while disabled");
        self.promise(!self.handlers.contains_key(&n), "prepare of an attached vector");
        self.steps.take()?;
        let newly_allocated = !self.allocated.contains(&n);
        if newly_allocated && self.allocated.len() >= self.caps.interrupts as usize {
            return Err(Errno::ENOSPC);
        }
        // The second step that can fail requests the handler. Nothing is allocated before it.
        self.steps.take()?;
        self.pci.with_memory(Pci::alloc);
        self.allocated.insert(n);
        self.handlers.insert(n, (trigger.again(), Mask::Masked, false));
        Ok(SimVector { number: n, trigger, newly_allocated, running: false, mask: Mask::Masked })
    }

    fn abandon(&mut self, _: MsiType, n: u32, vector: SimVector) {
        self.promise(!vector.running && vector.number == n, "abandon of a started vector");
        self.handlers.remove(&n);
        if vector.newly_allocated {
            self.allocated.remove(&n);
        }
    }

    fn start(&mut self, _: MsiType, n: u32, vector: &mut SimVector, mask: Mask) {
        self.promise(!vector.running, "start of a started vector");
        vector.running = true;
        vector.newly_allocated = false;
        vector.mask = mask;
        self.pci.with_memory(Pci::write_table);
        self.handlers.insert(n, (vector.trigger.again(), mask, true));
        self.signal_pending(n);
    }

    fn is_up_to_date(
        &mut self,
        _: MsiType,
        _: u32,
        vector: &SimVector,
        trigger: &SimTrigger,
        _: Mask,
    ) -> bool {
        vector.trigger.fd() == trigger.fd()
    }

    fn retarget(
        &mut self,
        _: MsiType,
        n: u32,
        vector: &mut SimVector,
        trigger: SimTrigger,
        _: Mask,
    ) {
        self.promise(vector.running, "retarget of a vector that was not started");
        self.promise(
            !self.offered.contains_key(&n),
            "retarget of a vector that is offered to irq bypass",
        );
        if let Some(handler) = self.handlers.get_mut(&n) {
            handler.0 = trigger.again();
        }
        vector.trigger = trigger;
    }

    fn has_irq_bypass(&self) -> bool {
        true
    }

    fn unregister_irq_bypass(&mut self, vector: &mut SimVector) {
        self.offered.remove(&vector.number);
    }

    fn register_irq_bypass(&mut self, vector: &mut SimVector) {
        self.promise(vector.running, "irq bypass of a vector that was not started");
        self.offered.insert(vector.number, vector.trigger.fd());
    }

    fn stop(&mut self, _: MsiType, n: u32, vector: SimVector) {
        self.promise(vector.running && vector.number == n, "stop of a vector that was not started");
        self.pci.with_memory(Pci::write_table);
        self.offered.remove(&n);
        self.handlers.remove(&n);
    }

    fn reclaim(&mut self, msi_type: MsiType, n: u32) -> bool {
        let idle = self.enabled == Some(msi_type) && !self.handlers.contains_key(&n);
        self.promise(idle && self.dynamic(msi_type), "reclaim of a vector in use");
        let had = self.allocated.remove(&n);
        if had {
            self.reclaimed.insert(n);
        }
        had
    }

    fn set_mask(&mut self, _: MsiType, number: u32, vector: &mut SimVector, mask: Mask) {
        self.promise(vector.mask != mask, "set_mask without a change");
        self.pci.with_memory(Pci::write_table);
        vector.mask = mask;
        if let Some(handler) = self.handlers.get_mut(&number) {
            handler.1 = mask;
        }
        self.signal_pending(number);
    }

    fn signal(&mut self, vector: &SimVector) {
        self.eventfds.signal(vector.fd());
    }
}

impl IntxHost for Sim {
    fn intx_present(&self) -> bool {
        self.caps.pin
    }

    fn intx_enable(&mut self, trigger: Option<SimTrigger>) -> Result<(), Errno> {
        self.promise(!self.intx.on && self.enabled.is_none(), "intx_enable while something is on");
        self.steps.take()?;
        if !self.caps.connected {
            return Err(Errno::ENODEV);
        }
        self.intx = Intx { on: true, masked: self.pci.command.disintx, trigger, armed: None };
        Ok(())
    }

    fn intx_disable(&mut self) {
        self.promise(self.intx.on, "intx_disable while off");
        self.intx = Intx::default();
    }

    fn intx_set_trigger(&mut self, trigger: Option<SimTrigger>) {
        self.intx.trigger = trigger;
    }

    fn intx_set_mask(&mut self, mask: Mask) {
        self.intx.masked = mask == Mask::Masked;
    }

    fn intx_signal(&mut self) {
        if let Some(trigger) = &self.intx.trigger {
            self.eventfds.signal(trigger.fd());
        }
    }

    fn intx_arm_unmask(&mut self, fd: i32) -> Result<(), Errno> {
        self.steps.take()?;
        let armed = self.eventfds.get(fd)?;
        if self.intx.armed.is_some() {
            return Err(Errno::EBUSY);
        }
        self.intx.armed = Some(armed);
        Ok(())
    }

    fn intx_disarm_unmask(&mut self) {
        self.intx.armed = None;
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
