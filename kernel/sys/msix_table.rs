// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The MSI-X table in the device: whether it still holds the kernel's messages, and its repair.
//!
//! A reset that the kernel does not see clears the table. Attaching a vector again repairs its
//! entry (`CONTRACT.md`, V-12).

use super::bindings::{self, PCI_MSIX_ENTRY_CTRL_MASKBIT, PCI_MSIX_ENTRY_SIZE};
use super::msi_message::{cached_msi_msg, MsiMsg};
use super::{CoreDevice, Interrupt};
use core::ffi::c_void;
use core::ptr::addr_of;
use kernel::ffi::{c_int, c_ulong};
use vfio_irq_engine::Mask;

/// Offsets in an entry.
const LOWER_ADDR: usize = bindings::PCI_MSIX_ENTRY_LOWER_ADDR as usize;
const UPPER_ADDR: usize = bindings::PCI_MSIX_ENTRY_UPPER_ADDR as usize;
const DATA: usize = bindings::PCI_MSIX_ENTRY_DATA as usize;
const VECTOR_CTRL: usize = bindings::PCI_MSIX_ENTRY_VECTOR_CTRL as usize;

/// The value of a read that no device completes.
const PCI_ERROR_RESPONSE: u32 = !0;

/// The power state of a device that is awake. bindgen skips the macro because of its cast.
const PCI_D0: c_int = 0;

/// The MSI-X table as the core has mapped it.
///
/// # Invariants
///
/// The mapping covers every entry of the table, and stays until the core closes the device.
///
/// # Locks
///
/// Every access requires either side of `memory_lock`, which keeps decoding and the power state as
/// they are. The kernel writes entries too, under the lock of the interrupt's descriptor.
pub(crate) struct MsixTable {
    vdev: CoreDevice,
    base: *mut c_void,
}

// SAFETY: The pointer leads to registers of the device, which any thread may read and write.
unsafe impl Send for MsixTable {}
// SAFETY: As above.
unsafe impl Sync for MsixTable {}

impl MsixTable {
    /// Returns the table, or `None` if the core could not map it.
    pub(crate) fn of(vdev: CoreDevice) -> Option<Self> {
        let (device, pdev) = (vdev.as_ptr(), vdev.pdev());
        // SAFETY: By the invariant of `CoreDevice`; the core sets these when it opens the device.
        // `get` checks the index.
        let (base, resource, offset) = unsafe {
            let bar = usize::from((*device).msix_bar);
            let base = *(*addr_of!((*device).barmap)).get(bar)?;
            (base, (*addr_of!((*pdev).resource)).get(bar)?, (*device).msix_offset)
        };
        let mapped = resource.end.wrapping_sub(resource.start).wrapping_add(1);
        let table_end =
            u64::from(offset) + u64::from(vdev.msix_entries()) * u64::from(PCI_MSIX_ENTRY_SIZE);
        // An I/O BAR is mapped as a cookie, which is not an address.
        let is_memory = resource.flags & bindings::IORESOURCE_MEM as c_ulong != 0;
        if base.is_null() || kernel::error::from_err_ptr(base).is_err() {
            return None;
        }
        if !is_memory || table_end > u64::from(mapped) {
            return None;
        }
        // INVARIANT: Checked above; the core unmaps the BAR when it closes the device.
        Some(Self { vdev, base: base.wrapping_byte_add(offset as usize).cast() })
    }

    /// Returns false if a reset may have cleared the entry of a vector, or if the entry cannot be
    /// read. May return false without a reset: the kernel masks an entry for a moment now and then.
    pub(crate) fn is_intact(&self, number: u32, irq: u32, mask: Mask) -> bool {
        let lower_addr = self.read(number, LOWER_ADDR);
        match mask {
            // A reset masks every entry, so an unmasked entry is intact. A device that decodes no
            // memory may seem unmasked: some buses answer zero for it, others all ones. Few
            // platforms have a message at address zero.
            Mask::Unmasked if !matches!(lower_addr, 0 | PCI_ERROR_RESPONSE) => {
                self.read(number, VECTOR_CTRL) & PCI_MSIX_ENTRY_CTRL_MASKBIT == 0
            }
            // A masked vector signals nothing, so there is time to compare the whole message.
            _ => {
                [lower_addr, self.read(number, UPPER_ADDR), self.read(number, DATA)]
                    == cached_msi_msg(irq)
            }
        }
    }

    /// Returns a word of an entry, or all ones if the entry is not accessible.
    fn read(&self, number: u32, at: usize) -> u32 {
        if !self.is_accessible(number) {
            return PCI_ERROR_RESPONSE;
        }
        // SAFETY: By the invariant the entry is mapped.
        unsafe { bindings::readl(self.word(number, at)) }
    }

    /// Writes a message into an entry that is accessible. The kernel's cache stays as it is.
    fn write(&self, number: u32, msg: MsiMsg) {
        if !self.is_accessible(number) {
            return;
        }
        for (at, part) in [LOWER_ADDR, UPPER_ADDR, DATA].into_iter().zip(msg) {
            // SAFETY: By the invariant the entry is mapped.
            unsafe { bindings::writel(part, self.word(number, at)) };
        }
    }

    /// Returns true if the device is in D0 and the table has the entry.
    fn is_accessible(&self, number: u32) -> bool {
        // SAFETY: By the invariant of `CoreDevice`; the power state changes under `memory_lock`.
        let awake = unsafe { (*self.vdev.pdev()).current_state } == PCI_D0;
        awake && number < self.vdev.msix_entries()
    }

    fn word(&self, number: u32, at: usize) -> *mut c_void {
        self.base.wrapping_byte_add(number as usize * PCI_MSIX_ENTRY_SIZE as usize + at)
    }
}

impl Interrupt {
    /// Writes the message of a vector again, after a reset that the kernel did not see. The vector
    /// is masked meanwhile, so the device holds an interrupt that arrives. Requires `memory_lock`
    /// for writing.
    ///
    /// # Locks
    ///
    /// A change of affinity on another processor writes a message too, under a lock that modules
    /// cannot take: the lock of the interrupt's descriptor. The loop closes the race. It writes the
    /// cached message and waits until that lock is free (`synchronize_irq` takes it). If the cache
    /// has changed meanwhile, the loop writes again.
    ///
    /// `pci_write_msi_msg` changes the cache itself and would hide the race. It is therefore used
    /// only where the core could not map the table.
    #[cold]
    pub(crate) fn repair(
        &mut self,
        vdev: CoreDevice,
        table: Option<&MsixTable>,
        number: u32,
        mask: Mask,
    ) {
        if mask == Mask::Unmasked {
            self.mask();
        }
        let irq = self.irq();
        match table {
            None => vdev.restore_msi_msg(irq),
            Some(table) => loop {
                let msg = cached_msi_msg(irq);
                table.write(number, msg);
                // SAFETY: The interrupt is requested, and the caller holds no lock that the handler
                // takes.
                unsafe { bindings::synchronize_irq(irq) };
                if msg == cached_msi_msg(irq) {
                    break;
                }
            },
        }
        if mask == Mask::Unmasked {
            self.unmask();
        }
    }
}
