// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The MSI-X table in the device: whether it still holds what the kernel wrote, and writing it again.
//!
//! A reset that the kernel does not see clears the table. Attaching a vector again repairs it
//! (`CONTRACT.md`, V-12).

use super::bindings;
use super::device::ENTRY;
use super::{Core, Interrupt};
use core::ptr::addr_of;
use vfio_irq_engine::Gate;

/// Where in an entry its parts are.
const ADDRESS_LOW: usize = 0;
const ADDRESS_HIGH: usize = 4;
const DATA: usize = 8;
const VECTOR_CONTROL: usize = 12;

const MASKBIT: u32 = 1;

/// What a read returns that nothing answers.
const NOTHING: u32 = !0;

const D0: i32 = 0;

impl Core {
    /// Returns false if the table's entry of a vector looks as if a reset had cleared it, and if the
    /// entry cannot be read. The kernel masks an entry for a moment now and then, so that this may
    /// say false for nothing. The device's registers are reachable.
    pub(crate) fn has_table_entry(&self, number: u32, gate: Gate) -> bool {
        match gate {
            // A reset masks every entry, and no message has address zero.
            Gate::Open => self.read_entry(number, VECTOR_CONTROL).is_some_and(|w| w & MASKBIT == 0),
            Gate::Masked => self.read_entry(number, ADDRESS_LOW).is_some_and(|word| word != 0),
        }
    }

    /// Writes the message of a vector whose interrupt has no handler, as the core in C does. Memory
    /// is locked. Linux changes the affinity of an interrupt without a handler only on paper, so that
    /// no other message comes in between.
    pub(crate) fn write_message(&self, irq: u32) {
        // SAFETY: The interrupt is one of MSI-X.
        unsafe { bindings::vfio_pci_irq_write_message(irq) };
    }

    /// Returns where in the core's mapping a word of an entry is; `None` if the core has not mapped
    /// it, or the device sleeps.
    fn entry(&self, number: u32, at: usize) -> Option<*mut core::ffi::c_void> {
        let (core, pdev) = (self.as_ptr(), self.pdev());
        // SAFETY: By the invariant of `Core`; the core sets these when the device is opened, and
        // changes power under `memory_lock`, which is held.
        let (bar, offset, state) =
            unsafe { (usize::from((*core).msix_bar), (*core).msix_offset, (*pdev).current_state) };
        // SAFETY: As above; the arrays are as long as they say.
        let (base, resource) = unsafe {
            ((*addr_of!((*core).barmap)).get(bar)?, (*addr_of!((*pdev).resource)).get(bar)?)
        };
        let at = u64::from(offset) + u64::from(number) * ENTRY as u64 + at as u64;
        let mapped = resource.end.wrapping_sub(resource.start).wrapping_add(1);
        let failed = base.is_null() || kernel::error::from_err_ptr(*base).is_err();
        let there = !failed && state == D0 && at + 4 <= mapped;
        there.then(|| base.wrapping_byte_add(at as usize).cast())
    }

    fn read_entry(&self, number: u32, at: usize) -> Option<u32> {
        let word = self.entry(number, at)?;
        // SAFETY: The core mapped the whole region, and the word lies within it.
        Some(unsafe { bindings::readl(word) }).filter(|word| *word != NOTHING)
    }

    /// Writes a message into the table and nowhere else. Returns false if the core has not mapped it.
    fn write_entry(&self, number: u32, message: [u32; 3]) -> bool {
        let parts = [ADDRESS_LOW, ADDRESS_HIGH, DATA];
        parts.into_iter().zip(message).all(|(at, part)| {
            // SAFETY: As in `read_entry`.
            self.entry(number, at).map(|word| unsafe { bindings::writel(part, word) }).is_some()
        })
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
    pub(crate) fn repair(&mut self, core: Core, number: u32, gate: Gate) {
        if gate == Gate::Open {
            self.mask();
        }
        let irq = self.irq();
        loop {
            let message = cached_message(irq);
            if !core.write_entry(number, message) {
                core.write_message(irq);
                break;
            }
            // SAFETY: The interrupt is requested, and the caller holds no lock that the handler
            // takes. The call takes the lock under which affinity is changed.
            unsafe { bindings::synchronize_irq(irq) };
            if message == cached_message(irq) {
                break;
            }
        }
        if gate == Gate::Open {
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
