// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Messages of MSI and MSI-X: address and data that the device writes to raise an interrupt.
//!
//! The kernel caches the message of each interrupt. A reset that the kernel does not see clears the
//! message in the device (`CONTRACT.md`, V-12).

use super::bindings;
use super::CoreDevice;
use kernel::ffi::c_int;

/// Lower half of the address, upper half, data: the order of an MSI-X table entry.
pub(super) type MsiMsg = [u32; 3];

/// Returns the message that the kernel has cached for an interrupt of MSI or MSI-X.
pub(super) fn cached_msi_msg(irq: u32) -> MsiMsg {
    let mut msg = [0; 3];
    // SAFETY: The interrupt is one of MSI or MSI-X, so it has a message. The array has three words.
    unsafe { bindings::vfio_pci_irq_get_cached_msi_msg(irq, msg.as_mut_ptr()) };
    msg
}

impl CoreDevice {
    /// Writes the cached message of an interrupt without a handler into the device, as the core in
    /// C does. Requires `memory_lock` for writing.
    ///
    /// This cannot race with a change of affinity: without a handler, Linux records the new
    /// affinity and writes no message.
    pub(crate) fn restore_msi_msg(&self, irq: u32) {
        // SAFETY: The interrupt is one of MSI or MSI-X.
        unsafe { bindings::vfio_pci_irq_restore_msi_msg(irq) };
    }

    /// Returns false if the MSI capability does not hold the address that the kernel has cached.
    pub(crate) fn msi_address_is_intact(&self, irq: u32) -> bool {
        // SAFETY: By the invariant of `CoreDevice`; the PCI core sets it before a driver is bound.
        let cap = u32::from(unsafe { (*self.pdev()).msi_cap });
        let mut address_lo = 0;
        let at = (cap + bindings::PCI_MSI_ADDRESS_LO) as c_int;
        // SAFETY: The PCI device is live. A read that fails stores all ones.
        unsafe { bindings::pci_read_config_dword(self.pdev(), at, &mut address_lo) };
        let [cached_lo, ..] = cached_msi_msg(irq);
        address_lo == cached_lo
    }

    /// Calls `free_irq`, which removes the handler of the first MSI vector, and writes the message
    /// again. Returns what `free_irq` returns.
    ///
    /// MSI has one message for all vectors of a function. Linux clears it with the handler of the
    /// first vector, and the other vectors would then write to address zero. The first vector
    /// signals nothing: its interrupt has been torn down.
    pub(crate) fn preserve_msi_msg<R>(&self, irq: u32, free_irq: impl FnOnce() -> R) -> R {
        let msg = cached_msi_msg(irq);
        let result = free_irq();
        // SAFETY: The interrupt is one of MSI, and is still allocated.
        unsafe { bindings::vfio_pci_irq_write_msi_msg(irq, msg.as_ptr()) };
        result
    }
}
