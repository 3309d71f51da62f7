// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The MSI-X table in the device: whether it still holds what the kernel wrote, and writing it again.
//!
//! A reset that the kernel does not see clears the table. Attaching a vector again repairs it
//! (`CONTRACT.md`, V-12).

use super::bindings;
use super::device::ENTRY;
use super::{Core, Interrupt};
use core::ffi::c_void;
use core::ptr::addr_of;
use kernel::ffi::{c_int, c_ulong};
use vfio_irq_engine::Mask;

/// Where in an entry its parts are.
const ADDRESS_LOW: usize = 0;
const ADDRESS_HIGH: usize = 4;
const DATA: usize = 8;
const VECTOR_CONTROL: usize = 12;

const MASKBIT: u32 = 1;

/// What a read returns that nothing answers.
const NOTHING: u32 = !0;

const D0: c_int = 0;

/// The MSI-X table as the core has mapped it.
///
/// # Invariants
///
/// The mapping holds as many entries as the table has, and stays until the device is closed.
pub(crate) struct MsixTable {
    core: Core,
    base: *mut c_void,
}

// SAFETY: What is behind the pointer is the device's, which any thread may read and write.
unsafe impl Send for MsixTable {}
// SAFETY: As above.
unsafe impl Sync for MsixTable {}

impl MsixTable {
    /// Returns the table, or `None` if the core could not map it.
    pub(crate) fn of(core: Core) -> Option<Self> {
        let (device, pdev) = (core.as_ptr(), core.pdev());
        // SAFETY: By the invariant of `Core`; the core sets these when the device is opened. The
        // arrays are as long as they say.
        let (base, resource, offset) = unsafe {
            let bar = usize::from((*device).msix_bar);
            let base = *(*addr_of!((*device).barmap)).get(bar)?;
            (base, (*addr_of!((*pdev).resource)).get(bar)?, (*device).msix_offset)
        };
        let mapped = resource.end.wrapping_sub(resource.start).wrapping_add(1);
        let end = u64::from(offset) + u64::from(core.msix_entries()) * ENTRY as u64;
        // An I/O BAR is mapped as a cookie that is no address.
        let is_memory = resource.flags & bindings::IORESOURCE_MEM as c_ulong != 0;
        let failed = base.is_null() || kernel::error::from_err_ptr(base).is_err();
        let failed = failed || !is_memory || end > u64::from(mapped);
        // INVARIANT: Checked above; the core unmaps it when it closes the device.
        (!failed).then(|| Self { core, base: base.wrapping_byte_add(offset as usize).cast() })
    }

    /// Returns false if a reset may have cleared the entry of a vector, and if the entry cannot be read.
    /// The kernel masks an entry for a moment now and then, so that this may be false for nothing. The
    /// device's registers are reachable.
    pub(crate) fn has_entry(&self, number: u32, irq: u32, mask: Mask) -> bool {
        let low = self.read(number, ADDRESS_LOW);
        match mask {
            // A reset masks every entry. Address zero, which few platforms use, is also what some buses
            // answer for a device that decodes no memory; others answer all ones.
            Mask::Unmasked if !matches!(low, 0 | NOTHING) => {
                self.read(number, VECTOR_CONTROL) & MASKBIT == 0
            }
            // Nothing is signalled while masked, so that there is time to look at the whole message.
            _ => {
                [low, self.read(number, ADDRESS_HIGH), self.read(number, DATA)]
                    == cached_message(irq)
            }
        }
    }

    /// Returns a word of an entry. What a device that sleeps or decodes no memory would answer is
    /// all ones, and so is the answer for an entry beyond the table.
    fn read(&self, number: u32, at: usize) -> u32 {
        if !self.is_reachable(number) {
            return NOTHING;
        }
        // SAFETY: By the invariant the entry is mapped.
        unsafe { bindings::readl(self.base.wrapping_byte_add(number as usize * ENTRY + at)) }
    }

    /// Returns true if the device is awake and the entry lies in the table.
    fn is_reachable(&self, number: u32) -> bool {
        // SAFETY: By the invariant of `Core`; power changes under `memory_lock`, which is held.
        let awake = unsafe { (*self.core.pdev()).current_state } == D0;
        awake && number < self.core.msix_entries()
    }

    /// Writes a message into the table, and not into what the kernel has cached.
    fn write(&self, number: u32, message: [u32; 3]) {
        if !self.is_reachable(number) {
            return;
        }
        for (at, part) in [ADDRESS_LOW, ADDRESS_HIGH, DATA].into_iter().zip(message) {
            let word = self.base.wrapping_byte_add(number as usize * ENTRY + at);
            // SAFETY: By the invariant the entry is mapped.
            unsafe { bindings::writel(part, word) };
        }
    }
}

impl Core {
    /// Writes the message of a vector whose interrupt has no handler, as the core in C does. Memory
    /// is locked. Linux changes the affinity of an interrupt without a handler only on paper, so that
    /// no other message comes in between.
    pub(crate) fn write_message(&self, irq: u32) {
        // SAFETY: The interrupt is one of MSI or MSI-X.
        unsafe { bindings::vfio_pci_irq_write_message(irq) };
    }

    /// Returns true if the MSI capability holds the address that the kernel has cached. A reset that
    /// the kernel does not see clears it.
    pub(crate) fn has_msi_message(&self, irq: u32) -> bool {
        self.msi_address() == cached_message(irq)[0]
    }

    /// Runs `step`, which takes the handler of an MSI interrupt away, and puts the message back. The
    /// kernel clears the message of the first vector then, and the function has no other: the vectors
    /// that are left would write to address zero. The first vector itself is cut off where its
    /// interrupt was torn down.
    pub(crate) fn keeping_msi_message<R>(&self, irq: u32, step: impl FnOnce() -> R) -> R {
        let message = cached_message(irq);
        let result = step();
        // SAFETY: The interrupt is one of MSI, and still allocated.
        unsafe { bindings::vfio_pci_irq_set_message(irq, message.as_ptr()) };
        result
    }
}

impl Interrupt {
    /// Writes again what a reset has cleared. Memory is locked. The vector is masked meanwhile: the
    /// device holds what arrives.
    ///
    /// A change of affinity on another processor writes a message of its own, under a lock that
    /// modules cannot take. The loop closes that race: it writes what the kernel has cached, lets a
    /// change that has begun come to its end, and writes again if the cache has changed. Writing
    /// through the PCI layer would change the cache itself and hide the race, so that is left for
    /// tables that the core could not map.
    #[cold]
    pub(crate) fn repair(
        &mut self,
        core: Core,
        table: Option<&MsixTable>,
        number: u32,
        mask: Mask,
    ) {
        if mask == Mask::Unmasked {
            self.mask();
        }
        let irq = self.irq();
        match table {
            None => core.write_message(irq),
            Some(table) => loop {
                let message = cached_message(irq);
                table.write(number, message);
                // SAFETY: The interrupt is requested, and the caller holds no lock that the handler
                // takes. The call takes the lock under which affinity is changed.
                unsafe { bindings::synchronize_irq(irq) };
                if message == cached_message(irq) {
                    break;
                }
            },
        }
        if mask == Mask::Unmasked {
            self.unmask();
        }
    }
}

/// Returns the message that the kernel has cached for an interrupt, in the order of the table.
fn cached_message(irq: u32) -> [u32; 3] {
    let mut message = [0; 3];
    // SAFETY: The interrupt is one of MSI-X, so that it has a message. The place holds three words.
    unsafe { bindings::vfio_pci_irq_cached_message(irq, message.as_mut_ptr()) };
    message
}
