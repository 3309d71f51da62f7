// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `struct vfio_pci_core_device`: its capabilities, and its interrupts as the PCI core allocates
//! them.

use super::bindings::{self, vfio_pci_core_device};
use core::ptr::{addr_of_mut, NonNull};
use kernel::ffi::c_int;
use kernel::str::CStr;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::lock::{mutex::MutexBackend, Guard, Lock};
use vfio_irq_engine::{Errno, MsiType, Refusal};

/// A device of vfio-pci-core, called `vdev` as in C.
///
/// # Invariants
///
/// - The pointer is valid, and the device is initialised and outlives this value.
/// - Interrupts change through this value only while `igate` is held, or while the core closes the
///   device under the lock of its device set.
#[derive(Clone, Copy)]
pub(crate) struct CoreDevice(NonNull<vfio_pci_core_device>);

// SAFETY: By the second invariant a lock orders all changes, whichever thread makes them.
unsafe impl Send for CoreDevice {}
// SAFETY: As above.
unsafe impl Sync for CoreDevice {}

impl CoreDevice {
    /// Returns the device behind the core's pointer.
    ///
    /// # Safety
    ///
    /// The invariants of the type hold for `vdev`.
    pub(crate) unsafe fn from_raw(vdev: *mut vfio_pci_core_device) -> Self {
        // SAFETY: By the function's requirement the pointer is valid, so it is not null.
        // INVARIANT: By the function's requirement.
        Self(unsafe { NonNull::new_unchecked(vdev) })
    }

    pub(super) fn as_ptr(self) -> *mut vfio_pci_core_device {
        self.0.as_ptr()
    }

    pub(super) fn pdev(self) -> *mut bindings::pci_dev {
        // SAFETY: By the first invariant; `pdev` never changes.
        unsafe { (*self.as_ptr()).pdev }
    }

    /// Locks `igate`, which orders requests, configuration space and power management.
    pub(crate) fn lock_igate<'v>(self) -> Guard<'v, (), MutexBackend> {
        // SAFETY: By the first invariant the lock is initialised, and outlives the guard.
        unsafe { Lock::<(), MutexBackend>::from_raw(addr_of_mut!((*self.as_ptr()).igate)) }.lock()
    }

    /// Returns the address of the function, such as `0000:00:04.0`.
    pub(crate) fn pci_name(&self) -> &CStr {
        // SAFETY: The PCI device outlives this value, and its name is fixed while a driver is
        // bound. As in C's `dev_name`, the name is `init_name` if that is set, and the kobject's
        // otherwise.
        unsafe {
            let dev = &(*self.pdev()).dev;
            let name = if dev.init_name.is_null() { dev.kobj.name } else { dev.init_name };
            CStr::from_ptr(name.cast())
        }
    }

    /// Returns true if the function has MSI with mask bits.
    pub(crate) fn msi_is_maskable(self) -> bool {
        // SAFETY: By the first invariant; the PCI core sets it before a driver is bound.
        let cap = u32::from(unsafe { (*self.pdev()).msi_cap });
        if cap == 0 {
            return false;
        }
        let mut flags = 0;
        let at = (cap + bindings::PCI_MSI_FLAGS) as c_int;
        // SAFETY: The PCI device is live. A read that fails stores all ones.
        unsafe { bindings::pci_read_config_word(self.pdev(), at, &mut flags) };
        u32::from(flags) & bindings::PCI_MSI_FLAGS_MASKBIT != 0
    }

    /// Returns true if the function has an MSI-X table.
    pub(crate) fn has_msix(self) -> bool {
        // SAFETY: By the first invariant; the PCI core sets it before a driver is bound.
        unsafe { (*self.pdev()).msix_cap != 0 }
    }

    /// Returns the number of entries of the MSI-X table.
    pub(crate) fn msix_entries(self) -> u32 {
        // SAFETY: By the first invariant; the core sets the size in bytes when it opens the device.
        u32::from(unsafe { (*self.as_ptr()).msix_size }) / bindings::PCI_MSIX_ENTRY_SIZE
    }

    /// Returns true if MSI-X vectors can be allocated while MSI-X is enabled.
    pub(crate) fn has_dyn_msix(self) -> bool {
        // SAFETY: By the first invariant; the core sets the bit when it opens the device.
        unsafe { vfio_pci_core_device::has_dyn_msix_raw(self.as_ptr()) }
    }

    /// Returns true if this machine offers interrupts to consumers in the kernel.
    pub(crate) fn has_irq_bypass(self) -> bool {
        // SAFETY: The function has no arguments and no requirements.
        unsafe { bindings::vfio_pci_irq_has_bypass() }
    }

    /// Tells the core which index is active. The core reads `irq_type` without a lock, to emulate
    /// the MSI capability, to mask INTx before it suspends, and to disable the index at close.
    pub(super) fn set_irq_type(self, index: u32) {
        // SAFETY: By the first invariant; an aligned int that C reads as a whole.
        let irq_type = unsafe { Atomic::from_ptr(addr_of_mut!((*self.as_ptr()).irq_type)) };
        irq_type.store(index as c_int, Relaxed);
    }

    /// Enables MSI or MSI-X with exactly `vectors` interrupts. Requires `memory_lock` for writing.
    /// Returns [`Refusal::TooFew`] if the machine has fewer, or the PCI core's error.
    pub(crate) fn alloc_irq_vectors(self, msi_type: MsiType, vectors: u32) -> Result<(), Refusal> {
        let (index, flag) = match msi_type {
            MsiType::Msi => (bindings::VFIO_PCI_MSI_IRQ_INDEX, bindings::PCI_IRQ_MSI),
            MsiType::Msix => (bindings::VFIO_PCI_MSIX_IRQ_INDEX, bindings::PCI_IRQ_MSIX),
        };
        // SAFETY: The PCI device is live. The engine guarantees that MSI and MSI-X are disabled.
        let ret = unsafe { bindings::pci_alloc_irq_vectors(self.pdev(), 1, vectors, flag) };
        match u32::try_from(ret) {
            Err(_) | Ok(0) => return Err(Errno::from_raw(ret).into()),
            Ok(allocated) if allocated < vectors => {
                // SAFETY: The call above allocated them, and none has a handler.
                unsafe { bindings::pci_free_irq_vectors(self.pdev()) };
                return Err(Refusal::TooFew(allocated));
            }
            Ok(_) => {}
        }
        if msi_type == MsiType::Msi {
            // The logarithm of the number of vectors, rounded up. The core lets the guest write at
            // most that into the emulated capability.
            let msi_qmax = vectors.next_power_of_two().trailing_zeros() as u8;
            // SAFETY: By the first invariant; the core reads it while MSI is enabled.
            unsafe { (*self.as_ptr()).msi_qmax = msi_qmax };
        }
        self.set_irq_type(index);
        Ok(())
    }

    /// Disables MSI or MSI-X and frees its interrupts. Requires `memory_lock` for writing.
    pub(crate) fn free_irq_vectors(self) {
        // SAFETY: The PCI device is live. The engine guarantees that no handler is installed.
        unsafe { bindings::pci_free_irq_vectors(self.pdev()) };
        self.set_irq_type(bindings::VFIO_PCI_NUM_IRQS);
    }

    /// Sets DisINTx again if the core hides the function's INTx (`nointx`). The PCI core has
    /// cleared it with MSI or MSI-X, and such a function must not assert INTx.
    pub(crate) fn restore_disintx_of_nointx(self) {
        // SAFETY: By the first invariant; the core sets the bit when it opens the device.
        if unsafe { vfio_pci_core_device::nointx_raw(self.as_ptr()) } {
            // SAFETY: The PCI device is live.
            unsafe { bindings::pci_intx(self.pdev(), 0) };
        }
    }

    /// Returns the interrupt of a vector, or `None` if it has none.
    pub(crate) fn irq_vector(self, number: u32) -> Option<u32> {
        // SAFETY: The PCI device is live.
        let irq = unsafe { bindings::pci_irq_vector(self.pdev(), number) };
        u32::try_from(irq).ok()
    }

    /// Allocates an interrupt for one MSI-X vector while other vectors are in use. Requires
    /// `memory_lock` for writing. Returns its number.
    pub(crate) fn msix_alloc_irq_at(self, number: u32) -> Result<u32, Errno> {
        // SAFETY: The PCI device is live and MSI-X is enabled; null asks for no affinity.
        let map =
            unsafe { bindings::pci_msix_alloc_irq_at(self.pdev(), number, core::ptr::null()) };
        match u32::try_from(map.virq) {
            Ok(irq) if map.index >= 0 => Ok(irq),
            _ => Err(Errno::from_raw(map.index)),
        }
    }

    /// Frees the interrupt of one MSI-X vector that has no handler. Requires `memory_lock` for
    /// writing.
    pub(crate) fn msix_free_irq(self, number: u32, irq: u32) {
        let map = bindings::msi_map { index: number as c_int, virq: irq as c_int };
        // SAFETY: The PCI device is live and MSI-X is enabled; the interrupt is the vector's.
        unsafe { bindings::pci_msix_free_irq(self.pdev(), map) };
    }
}
