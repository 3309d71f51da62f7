// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Linux as the engine's platform.
//!
//! An interrupt is requested disabled while a request is prepared, and enabled when the request is
//! committed. A trigger is replaced by a store and a wait for handlers in flight.

use crate::slots::Tree;
use crate::sys::{Core, Decoding, Interrupt, Intx, MsixTable, Trigger};
use vfio_irq_engine::{
    Errno, Event, EventHost, Host, IntxHost, Mask, MsiType, Refusal, Size, Slot,
};

pub(crate) struct Linux {
    core: Core,
    /// Whether interrupts are offered to consumers in the kernel (irq bypass).
    bypass: bool,
    /// Memory is locked and decoded, from the first step that needs it to [`Linux::finish`].
    memory: Option<Decoding>,
    /// This request has enabled MSI-X: what the kernel wrote to the table is still there.
    table_is_new: bool,
    /// This request has disabled MSI or MSI-X.
    disabled: bool,
    /// The MSI-X table, while MSI-X is enabled and if the core could map it.
    table: Option<MsixTable>,
    intx: Option<Intx>,
    /// Signals of vectors that were detached since.
    gone_signals: u64,
}

impl Linux {
    pub(crate) fn new(core: Core) -> Self {
        Self {
            core,
            bypass: core.has_irq_bypass(),
            memory: None,
            table_is_new: false,
            disabled: false,
            table: None,
            intx: None,
            gone_signals: 0,
        }
    }

    pub(crate) fn intx(&self) -> Option<&Intx> {
        self.intx.as_ref()
    }

    pub(crate) fn gone_signals(&self) -> u64 {
        self.gone_signals
    }

    /// Ends a request: COMMAND is as the request found it.
    #[inline]
    pub(crate) fn finish(&mut self) {
        self.unlock_memory();
        self.table_is_new = false;
        if core::mem::take(&mut self.disabled) {
            self.core.silence_hidden_intx();
        }
    }

    /// Locks memory until the request is over. The core in C locks it anew for each vector; here a
    /// request of many vectors reads and writes COMMAND once.
    fn lock_memory(&mut self) {
        if self.memory.is_none() {
            self.memory = Some(self.core.lock_memory());
        }
    }

    /// Unlocks memory before the request is over, for steps that must not run with it locked.
    fn unlock_memory(&mut self) {
        if let Some(found) = self.memory.take() {
            self.core.unlock_memory(found);
        }
    }

    /// Touches registers of the device for a moment. Where the device decodes memory, as it mostly
    /// does, that costs less than [`Linux::lock_memory`].
    #[inline]
    fn with_registers(&mut self, run: impl FnOnce()) {
        if self.memory.is_none() {
            if let Some(_reachable) = self.core.reachable() {
                return run();
            }
            self.lock_memory();
        }
        run();
    }

    /// Returns false if a reset that the kernel did not see may have cleared a vector's message
    /// (`CONTRACT.md`, V-12).
    #[inline]
    fn has_message(&self, msi_type: MsiType, number: u32, irq: u32, mask: Mask) -> bool {
        let Some(table) = &self.table else {
            return msi_type == MsiType::Msi && self.core.has_msi_message(irq);
        };
        if self.memory.is_some() {
            return table.has_entry(number, irq, mask);
        }
        self.core.reachable().is_some_and(|_reachable| table.has_entry(number, irq, mask))
    }

    /// Takes the handler of a vector away while others stay. Returns how often it ran.
    fn free(&mut self, msi_type: MsiType, number: u32, interrupt: Interrupt) -> u64 {
        self.lock_memory();
        if msi_type == MsiType::Msi && number == 0 {
            let irq = interrupt.irq();
            return self.core.keeping_msi_message(irq, || interrupt.free());
        }
        interrupt.free()
    }

    fn repair(&mut self, number: u32, vector: &mut Vector, mask: Mask) {
        self.lock_memory();
        vector.interrupt.repair(self.core, self.table.as_ref(), number, mask);
    }
}

/// A vector with a trigger.
pub(crate) struct Vector {
    interrupt: Interrupt,
    /// Allocated by the request that prepared it, and freed if that request fails.
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
    type Slots = Tree<Slot<Self>>;

    /// The core checks a request against the counts itself, before it calls the engine.
    fn count(&self, msi_type: MsiType) -> u32 {
        match msi_type {
            MsiType::Msi => u32::MAX,
            MsiType::Msix => self.core.msix_entries(),
        }
    }

    fn dynamic(&self, msi_type: MsiType) -> bool {
        msi_type == MsiType::Msix && self.core.has_dynamic_msix()
    }

    fn maskable(&self, msi_type: MsiType) -> bool {
        match msi_type {
            MsiType::Msi => self.core.msi_is_maskable(),
            MsiType::Msix => true,
        }
    }

    fn resolve(&mut self, fd: i32) -> Result<Trigger, Errno> {
        Trigger::from_fd(fd)
    }

    fn enable(&mut self, msi_type: MsiType, vectors: u32) -> Result<Size, Refusal> {
        self.lock_memory();
        self.core.alloc_vectors(msi_type, vectors)?;
        self.table_is_new = true;
        self.table = (msi_type == MsiType::Msix).then(|| MsixTable::of(self.core)).flatten();
        Ok(if self.dynamic(msi_type) { Size::Dynamic } else { Size::Fixed(vectors) })
    }

    fn disable(&mut self, _: MsiType) {
        self.lock_memory();
        self.core.free_vectors();
        self.table = None;
        self.disabled = true;
    }

    fn prepare(
        &mut self,
        msi_type: MsiType,
        number: u32,
        trigger: Trigger,
    ) -> Result<Vector, Errno> {
        self.lock_memory();
        let (irq, fresh) = match self.core.vector_irq(number) {
            Some(irq) => (irq, false),
            None if self.dynamic(msi_type) => (self.core.alloc_vector(number)?, true),
            None => return Err(Errno::EINVAL),
        };
        if msi_type == MsiType::Msix && !fresh && !self.table_is_new {
            self.core.write_message(irq);
        }
        match Interrupt::request(self.core, msi_type, number, irq, trigger) {
            Ok(interrupt) => Ok(Vector { interrupt, fresh }),
            Err(errno) => {
                if fresh {
                    self.core.free_vector(number, irq);
                }
                Err(errno)
            }
        }
    }

    fn abandon(&mut self, msi_type: MsiType, number: u32, vector: Vector) {
        let (irq, fresh) = (vector.interrupt.irq(), vector.fresh);
        self.free(msi_type, number, vector.interrupt);
        if fresh {
            self.core.free_vector(number, irq);
        }
    }

    fn start(&mut self, _: MsiType, _number: u32, vector: &mut Vector, mask: Mask) {
        vector.fresh = false;
        if mask == Mask::Unmasked {
            self.lock_memory();
            vector.interrupt.unmask();
        }
    }

    fn is_up_to_date(
        &mut self,
        msi_type: MsiType,
        number: u32,
        vector: &Vector,
        trigger: &Trigger,
        mask: Mask,
    ) -> bool {
        let irq = vector.interrupt.irq();
        vector.interrupt.targets(trigger) && self.has_message(msi_type, number, irq, mask)
    }

    fn retarget(
        &mut self,
        msi_type: MsiType,
        number: u32,
        vector: &mut Vector,
        trigger: Trigger,
        mask: Mask,
    ) {
        vector.interrupt.retarget(trigger);
        if !self.has_message(msi_type, number, vector.interrupt.irq(), mask) {
            self.repair(number, vector, mask);
        }
    }

    fn has_irq_bypass(&self) -> bool {
        self.bypass
    }

    /// Consumers take locks of their own, so memory is not locked here; nor is it in the core in C.
    fn unregister_irq_bypass(&mut self, vector: &mut Vector) {
        self.unlock_memory();
        vector.interrupt.unregister_irq_bypass();
    }

    fn register_irq_bypass(&mut self, vector: &mut Vector) {
        self.unlock_memory();
        vector.interrupt.register_irq_bypass(self.core);
    }

    fn stop(&mut self, msi_type: MsiType, number: u32, mut vector: Vector) {
        if self.bypass {
            self.unregister_irq_bypass(&mut vector);
        }
        let signals = self.free(msi_type, number, vector.interrupt);
        self.gone_signals = self.gone_signals.wrapping_add(signals);
    }

    fn reclaim(&mut self, _: MsiType, number: u32) -> bool {
        let Some(irq) = self.core.vector_irq(number) else { return false };
        self.lock_memory();
        self.core.free_vector(number, irq);
        true
    }

    fn set_mask(&mut self, _: MsiType, _number: u32, vector: &mut Vector, mask: Mask) {
        self.with_registers(|| match mask {
            Mask::Unmasked => vector.interrupt.unmask(),
            Mask::Masked => vector.interrupt.mask(),
        });
    }

    fn signal(&mut self, vector: &Vector) {
        vector.interrupt.signal();
    }
}

impl IntxHost for Linux {
    /// GET_IRQ_INFO is the core's.
    fn intx_present(&self) -> bool {
        true
    }

    fn intx_enable(&mut self, trigger: Option<Trigger>) -> Result<(), Errno> {
        self.intx = Some(Intx::enable(self.core, trigger)?);
        Ok(())
    }

    fn intx_disable(&mut self) {
        self.intx = None;
    }

    fn intx_set_trigger(&mut self, trigger: Option<Trigger>) {
        if let Some(intx) = &mut self.intx {
            intx.set_target(trigger);
        }
    }

    fn intx_set_mask(&mut self, mask: Mask) {
        if let Some(intx) = &self.intx {
            intx.set_mask(mask);
        }
    }

    fn intx_signal(&mut self) {
        if let Some(intx) = &self.intx {
            intx.signal();
        }
    }

    fn intx_arm_unmask(&mut self, fd: i32) -> Result<(), Errno> {
        self.intx.as_mut().ok_or(Errno::EINVAL)?.arm(fd)
    }

    fn intx_disarm_unmask(&mut self) {
        if let Some(intx) = &mut self.intx {
            intx.disarm();
        }
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
