// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Linux as the engine's platform.
//!
//! Prepare requests an interrupt disabled, and commit enables it. A trigger is replaced by a store
//! and a wait for handlers in flight.

use crate::irq_name;
use crate::slots::Tree;
use crate::sys::{CoreDevice, Interrupt, Intx, MsixTable, SavedCommand, Trigger};
use vfio_irq_engine::{
    Errno, Event, EventHost, Host, IntxHost, Mask, MsiType, Refusal, Size, Slot,
};

/// The engine's platform for one device.
///
/// # Locks
///
/// Every method runs under `igate`, or under the lock of the device set at close. `memory_lock` is
/// taken for writing by the first step that needs it, and is held until [`Linux::finish`]. The core
/// in C takes it for each vector. Here a request of many vectors reads and writes COMMAND once.
pub(crate) struct Linux {
    vdev: CoreDevice,
    /// This machine offers interrupts to consumers in the kernel (irq bypass).
    irq_bypass: bool,
    /// COMMAND as this request found it, while the request holds `memory_lock` for writing.
    saved_command: Option<SavedCommand>,
    /// This request has enabled MSI or MSI-X, so the messages that the kernel wrote are intact.
    newly_enabled: bool,
    /// This request has disabled MSI or MSI-X.
    newly_disabled: bool,
    /// The MSI-X table, while MSI-X is enabled and if the core could map it.
    table: Option<MsixTable>,
    intx: Option<Intx>,
    /// Signals of the vectors that were detached.
    gone_signals: u64,
}

impl Linux {
    pub(crate) fn new(vdev: CoreDevice) -> Self {
        Self {
            vdev,
            irq_bypass: vdev.has_irq_bypass(),
            saved_command: None,
            newly_enabled: false,
            newly_disabled: false,
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

    /// Ends a request: restores COMMAND, and releases `memory_lock`.
    #[inline]
    pub(crate) fn finish(&mut self) {
        self.memory_unlock_and_restore();
        self.newly_enabled = false;
        if core::mem::take(&mut self.newly_disabled) {
            self.vdev.restore_disintx_of_nointx();
        }
    }

    /// Takes `memory_lock` for writing and turns memory decoding on, until the end of the request.
    /// Does nothing if this request holds it already.
    fn memory_lock_and_enable(&mut self) {
        if self.saved_command.is_none() {
            self.saved_command = Some(self.vdev.memory_lock_and_enable());
        }
    }

    /// Releases `memory_lock` at the end of the request, and before a step that must not hold it.
    fn memory_unlock_and_restore(&mut self) {
        if let Some(command) = self.saved_command.take() {
            self.vdev.memory_unlock_and_restore(command);
        }
    }

    /// Runs `access` with `memory_lock` held and memory decoding on. A device usually decodes
    /// memory, and the lock is then taken for reading: that costs less than
    /// [`Linux::memory_lock_and_enable`].
    #[inline]
    fn with_memory_enabled(&mut self, access: impl FnOnce()) {
        if self.saved_command.is_none() {
            if let Some(_guard) = self.vdev.down_read_if_memory_enabled() {
                return access();
            }
            self.memory_lock_and_enable();
        }
        access();
    }

    /// Returns false if a reset that the kernel did not see may have cleared the message of a
    /// vector (`CONTRACT.md`, V-12).
    #[inline]
    fn message_is_intact(&self, msi_type: MsiType, number: u32, irq: u32, mask: Mask) -> bool {
        let Some(table) = &self.table else {
            return msi_type == MsiType::Msi && self.vdev.msi_address_is_intact(irq);
        };
        if self.saved_command.is_some() {
            return table.is_intact(number, irq, mask);
        }
        let guard = self.vdev.down_read_if_memory_enabled();
        guard.is_some_and(|_guard| table.is_intact(number, irq, mask))
    }

    /// Removes the handler of a vector. Returns how often it ran.
    fn free_irq(&mut self, msi_type: MsiType, number: u32, interrupt: Interrupt) -> u64 {
        self.memory_lock_and_enable();
        if msi_type == MsiType::Msi && number == 0 {
            let irq = interrupt.irq();
            return self.vdev.preserve_msi_msg(irq, || interrupt.free());
        }
        interrupt.free()
    }

    fn repair(&mut self, number: u32, vector: &mut Vector, mask: Mask) {
        self.memory_lock_and_enable();
        vector.interrupt.repair(self.vdev, self.table.as_ref(), number, mask);
    }
}

/// A vector with a trigger.
pub(crate) struct Vector {
    interrupt: Interrupt,
    /// The request that prepared the vector allocated its interrupt. If that request fails, the
    /// interrupt is freed.
    newly_allocated: bool,
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

    /// The core checks a request against the number of vectors before it calls the engine.
    fn count(&self, msi_type: MsiType) -> u32 {
        match msi_type {
            MsiType::Msi => u32::MAX,
            MsiType::Msix => self.vdev.msix_entries(),
        }
    }

    fn dynamic(&self, msi_type: MsiType) -> bool {
        msi_type == MsiType::Msix && self.vdev.has_dyn_msix()
    }

    fn maskable(&self, msi_type: MsiType) -> bool {
        match msi_type {
            MsiType::Msi => self.vdev.msi_is_maskable(),
            MsiType::Msix => true,
        }
    }

    fn resolve(&mut self, fd: i32) -> Result<Trigger, Errno> {
        Trigger::from_fd(fd)
    }

    fn enable(&mut self, msi_type: MsiType, vectors: u32) -> Result<Size, Refusal> {
        self.memory_lock_and_enable();
        self.vdev.alloc_irq_vectors(msi_type, vectors)?;
        self.newly_enabled = true;
        self.table = (msi_type == MsiType::Msix).then(|| MsixTable::of(self.vdev)).flatten();
        Ok(if self.dynamic(msi_type) { Size::Dynamic } else { Size::Fixed(vectors) })
    }

    fn disable(&mut self, _: MsiType) {
        self.memory_lock_and_enable();
        self.vdev.free_irq_vectors();
        self.table = None;
        self.newly_disabled = true;
    }

    fn prepare(
        &mut self,
        msi_type: MsiType,
        number: u32,
        trigger: Trigger,
    ) -> Result<Vector, Errno> {
        self.memory_lock_and_enable();
        let (irq, newly_allocated) = match self.vdev.irq_vector(number) {
            Some(irq) => (irq, false),
            None if self.dynamic(msi_type) => (self.vdev.msix_alloc_irq_at(number)?, true),
            None => return Err(Errno::EINVAL),
        };
        // A reset may have cleared the message of an interrupt that an earlier request allocated.
        if msi_type == MsiType::Msix && !newly_allocated && !self.newly_enabled {
            self.vdev.restore_msi_msg(irq);
        }
        let name = irq_name::of_vector(self.vdev.pci_name(), msi_type, number);
        match Interrupt::request(irq, name, trigger) {
            Ok(interrupt) => Ok(Vector { interrupt, newly_allocated }),
            Err(errno) => {
                if newly_allocated {
                    self.vdev.msix_free_irq(number, irq);
                }
                Err(errno)
            }
        }
    }

    fn abandon(&mut self, msi_type: MsiType, number: u32, vector: Vector) {
        let (irq, newly_allocated) = (vector.interrupt.irq(), vector.newly_allocated);
        self.free_irq(msi_type, number, vector.interrupt);
        if newly_allocated {
            self.vdev.msix_free_irq(number, irq);
        }
    }

    fn start(&mut self, _: MsiType, _number: u32, vector: &mut Vector, mask: Mask) {
        vector.newly_allocated = false;
        if mask == Mask::Unmasked {
            self.memory_lock_and_enable();
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
        vector.interrupt.has_trigger(trigger) && self.message_is_intact(msi_type, number, irq, mask)
    }

    fn retarget(
        &mut self,
        msi_type: MsiType,
        number: u32,
        vector: &mut Vector,
        trigger: Trigger,
        mask: Mask,
    ) {
        vector.interrupt.set_trigger(trigger);
        if !self.message_is_intact(msi_type, number, vector.interrupt.irq(), mask) {
            self.repair(number, vector, mask);
        }
    }

    fn has_irq_bypass(&self) -> bool {
        self.irq_bypass
    }

    /// Bypass consumers take locks of their own, so this releases `memory_lock` first. The core in
    /// C does not hold it here either.
    fn unregister_irq_bypass(&mut self, vector: &mut Vector) {
        self.memory_unlock_and_restore();
        vector.interrupt.unregister_irq_bypass();
    }

    /// Releases `memory_lock` first, as [`Host::unregister_irq_bypass`] does.
    fn register_irq_bypass(&mut self, vector: &mut Vector) {
        self.memory_unlock_and_restore();
        vector.interrupt.register_irq_bypass(self.vdev);
    }

    fn stop(&mut self, msi_type: MsiType, number: u32, mut vector: Vector) {
        if self.irq_bypass {
            self.unregister_irq_bypass(&mut vector);
        }
        let signals = self.free_irq(msi_type, number, vector.interrupt);
        self.gone_signals = self.gone_signals.wrapping_add(signals);
    }

    fn reclaim(&mut self, _: MsiType, number: u32) -> bool {
        let Some(irq) = self.vdev.irq_vector(number) else { return false };
        self.memory_lock_and_enable();
        self.vdev.msix_free_irq(number, irq);
        true
    }

    fn set_mask(&mut self, _: MsiType, _number: u32, vector: &mut Vector, mask: Mask) {
        self.with_memory_enabled(|| match mask {
            Mask::Unmasked => vector.interrupt.unmask(),
            Mask::Masked => vector.interrupt.mask(),
        });
    }

    fn signal(&mut self, vector: &Vector) {
        vector.interrupt.signal();
    }
}

impl IntxHost for Linux {
    /// The core answers GET_IRQ_INFO itself, so the engine never calls this.
    fn intx_present(&self) -> bool {
        true
    }

    fn intx_enable(&mut self, trigger: Option<Trigger>) -> Result<(), Errno> {
        let name = irq_name::of_intx(self.vdev.pci_name());
        self.intx = Some(Intx::enable(self.vdev, name, trigger)?);
        Ok(())
    }

    fn intx_disable(&mut self) {
        self.intx = None;
    }

    fn intx_set_trigger(&mut self, trigger: Option<Trigger>) {
        if let Some(intx) = &mut self.intx {
            intx.set_trigger(trigger);
        }
    }

    fn intx_set_mask(&mut self, mask: Mask) {
        let Some(intx) = &self.intx else { return };
        match mask {
            Mask::Masked => drop(intx.mask()),
            Mask::Unmasked => intx.unmask(),
        }
    }

    fn intx_signal(&mut self) {
        if let Some(intx) = &self.intx {
            intx.signal();
        }
    }

    fn intx_arm_unmask(&mut self, fd: i32) -> Result<(), Errno> {
        self.intx.as_mut().ok_or(Errno::EINVAL)?.virqfd_enable(fd)
    }

    fn intx_disarm_unmask(&mut self) {
        if let Some(intx) = &mut self.intx {
            intx.virqfd_disable();
        }
    }
}

impl EventHost for Linux {
    fn event_is_set(&self, event: Event) -> bool {
        self.vdev.event_is_set(event)
    }

    fn event_set(&mut self, event: Event, trigger: Option<Trigger>) -> Result<(), Errno> {
        self.vdev.event_set(event, trigger)
    }

    fn event_signal(&mut self, event: Event) {
        self.vdev.event_signal(event);
    }
}
