// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The core's device: its interrupts as the PCI layer gives them, and its memory lock.

use super::bindings::{self, vfio_pci_core_device};
use core::ptr::{addr_of_mut, NonNull};
use kernel::ffi::c_int;
use kernel::str::CStr;
use kernel::sync::atomic::{Atomic, Relaxed};
use vfio_irq_engine::{Errno, MsiType, Refusal};

/// A device of vfio-pci-core.
///
/// # Invariants
///
/// Points to an initialised device that outlives this value. Interrupts are changed through it only
/// while `igate` is held, or while the core closes the device under the lock of its set.
#[derive(Clone, Copy)]
pub(crate) struct Core(NonNull<vfio_pci_core_device>);

// SAFETY: By the invariant a lock orders what is done through it.
unsafe impl Send for Core {}
// SAFETY: As above.
unsafe impl Sync for Core {}

/// What COMMAND was before [`Core::lock_memory`] turned memory decoding on. `memory_lock` is held for
/// writing until the value is given to [`Core::unlock_memory`].
#[must_use]
pub(crate) struct Decoding(u16);

impl Core {
    /// # Safety
    ///
    /// The invariant of the type holds for `core`.
    pub(super) unsafe fn new(core: NonNull<vfio_pci_core_device>) -> Self {
        Self(core)
    }

    pub(super) fn as_ptr(self) -> *mut vfio_pci_core_device {
        self.0.as_ptr()
    }

    pub(super) fn pdev(self) -> *mut bindings::pci_dev {
        // SAFETY: By the invariant; `pdev` never changes.
        unsafe { (*self.as_ptr()).pdev }
    }

    /// Returns the address of the function, as in `0000:00:04.0`.
    pub(crate) fn name(&self) -> &CStr {
        // SAFETY: The PCI device outlives this value, and its name is fixed while a driver is bound.
        // The name is `init_name`, or else the kobject's.
        unsafe {
            let dev = &(*self.pdev()).dev;
            let name = if dev.init_name.is_null() { dev.kobj.name } else { dev.init_name };
            CStr::from_ptr(name.cast())
        }
    }

    fn config(self, at: u32) -> u16 {
        let mut word = 0;
        // SAFETY: The PCI device is live. A read that fails leaves all ones.
        unsafe { bindings::pci_read_config_word(self.pdev(), at as c_int, &mut word) };
        word
    }

    /// Returns true if the function has MSI with mask bits.
    pub(crate) fn msi_is_maskable(self) -> bool {
        // SAFETY: By the invariant; set when the PCI device is found.
        let cap = u32::from(unsafe { (*self.pdev()).msi_cap });
        let flags = || self.config(cap + bindings::PCI_MSI_FLAGS);
        cap != 0 && u32::from(flags()) & bindings::PCI_MSI_FLAGS_MASKBIT != 0
    }

    /// Returns the address, its lower half, that the function writes its MSI to.
    pub(super) fn msi_address(self) -> u32 {
        // SAFETY: By the invariant; set when the PCI device is found.
        let cap = u32::from(unsafe { (*self.pdev()).msi_cap });
        let mut address = 0;
        let at = (cap + bindings::PCI_MSI_ADDRESS_LO) as c_int;
        // SAFETY: The PCI device is live. A read that fails leaves all ones.
        unsafe { bindings::pci_read_config_dword(self.pdev(), at, &mut address) };
        address
    }

    /// Returns true if the function has an MSI-X table.
    pub(crate) fn has_msix(self) -> bool {
        // SAFETY: By the invariant; set when the PCI device is found.
        unsafe { (*self.pdev()).msix_cap != 0 }
    }

    /// Returns the number of entries of the MSI-X table.
    pub(crate) fn msix_entries(self) -> u32 {
        // SAFETY: By the invariant; the core sets the size in bytes when the device is opened.
        u32::from(unsafe { (*self.as_ptr()).msix_size }) / ENTRY as u32
    }

    /// Returns true if MSI-X vectors can be allocated while MSI-X is enabled.
    pub(crate) fn has_dynamic_msix(self) -> bool {
        // SAFETY: By the invariant; the core sets the bit when the device is opened.
        unsafe { vfio_pci_core_device::has_dyn_msix_raw(self.as_ptr()) }
    }

    /// Tells the core which index is active. It emulates the MSI capability and refuses the other
    /// indexes by that, and reads it without a lock.
    pub(super) fn set_irq_type(self, index: u32) {
        // SAFETY: By the invariant; an aligned int that C reads as a whole.
        let irq_type = unsafe { Atomic::from_ptr(addr_of_mut!((*self.as_ptr()).irq_type)) };
        irq_type.store(index as c_int, Relaxed);
    }

    /// Enables MSI or MSI-X with exactly so many interrupts. Memory is locked.
    pub(crate) fn alloc_vectors(self, msi_type: MsiType, vectors: u32) -> Result<(), Refusal> {
        let (index, flag) = match msi_type {
            MsiType::Msi => (bindings::VFIO_PCI_MSI_IRQ_INDEX, bindings::PCI_IRQ_MSI),
            MsiType::Msix => (bindings::VFIO_PCI_MSIX_IRQ_INDEX, bindings::PCI_IRQ_MSIX),
        };
        // SAFETY: The PCI device is live, and neither MSI nor MSI-X is enabled (the engine's promise).
        let got = unsafe { bindings::pci_alloc_irq_vectors(self.pdev(), 1, vectors, flag) };
        match u32::try_from(got) {
            Err(_) | Ok(0) => return Err(Errno::from_raw(got).into()),
            Ok(got) if got < vectors => {
                // SAFETY: The call above allocated them, and none has a handler.
                unsafe { bindings::pci_free_irq_vectors(self.pdev()) };
                return Err(Refusal::TooFew(got));
            }
            Ok(_) => {}
        }
        if msi_type == MsiType::Msi {
            // The logarithm of the vectors, rounded up: what a guest may write into the capability.
            let queue = vectors.next_power_of_two().trailing_zeros() as u8;
            // SAFETY: By the invariant; the core reads it while MSI is enabled.
            unsafe { (*self.as_ptr()).msi_qmax = queue };
        }
        self.set_irq_type(index);
        Ok(())
    }

    /// Disables MSI or MSI-X. Memory is locked.
    pub(crate) fn free_vectors(self) {
        // SAFETY: The PCI device is live, and no handler is installed (the engine's promise).
        unsafe { bindings::pci_free_irq_vectors(self.pdev()) };
        self.set_irq_type(bindings::VFIO_PCI_NUM_IRQS);
    }

    /// Sets DisINTx again on a function whose INTx the core hides, which stays quiet only with it.
    pub(crate) fn silence_hidden_intx(self) {
        // SAFETY: By the invariant; the core sets the bit when the device is opened.
        if unsafe { vfio_pci_core_device::nointx_raw(self.as_ptr()) } {
            // SAFETY: The PCI device is live.
            unsafe { bindings::pci_intx(self.pdev(), 0) };
        }
    }

    /// Returns the interrupt of a vector that has one.
    pub(crate) fn vector_irq(self, number: u32) -> Option<u32> {
        // SAFETY: The PCI device is live.
        let irq = unsafe { bindings::pci_irq_vector(self.pdev(), number) };
        u32::try_from(irq).ok()
    }

    /// Allocates an interrupt for one vector of MSI-X while the others go on. Memory is locked.
    pub(crate) fn alloc_vector(self, number: u32) -> Result<u32, Errno> {
        // SAFETY: The PCI device is live and MSI-X is enabled; no affinity is asked for.
        let map =
            unsafe { bindings::pci_msix_alloc_irq_at(self.pdev(), number, core::ptr::null()) };
        match u32::try_from(map.virq) {
            Ok(irq) if map.index >= 0 => Ok(irq),
            _ => Err(Errno::from_raw(map.index)),
        }
    }

    /// Frees the interrupt of one vector of MSI-X, which has no handler. Memory is locked.
    pub(crate) fn free_vector(self, number: u32, irq: u32) {
        let map = bindings::msi_map { index: number as c_int, virq: irq as c_int };
        // SAFETY: The PCI device is live and MSI-X is enabled; the interrupt is the vector's.
        unsafe { bindings::pci_msix_free_irq(self.pdev(), map) };
    }

    /// Returns true if interrupts are offered to consumers in the kernel on this machine.
    pub(crate) fn has_irq_bypass(self) -> bool {
        // SAFETY: It takes nothing, and may be called at any time.
        unsafe { bindings::vfio_pci_irq_has_bypass() }
    }

    /// Locks the device's memory and turns decoding on, as the core does around everything that
    /// touches registers. No reset and no change of power comes in between.
    pub(crate) fn lock_memory(self) -> Decoding {
        // SAFETY: By the invariant the lock is initialised.
        Decoding(unsafe { bindings::vfio_pci_memory_lock_and_enable(self.as_ptr()) })
    }

    /// Writes COMMAND back as it was found, DisINTx included, and unlocks the device's memory.
    pub(crate) fn unlock_memory(self, found: Decoding) {
        // SAFETY: `lock_memory` took the lock.
        unsafe { bindings::vfio_pci_memory_unlock_and_restore(self.as_ptr(), found.0) };
    }

    /// Holds the device's memory lock for reading while the guard lives. Returns `None` if the
    /// device does not decode memory, as far as the core knows, or sleeps.
    #[inline]
    pub(crate) fn reachable(&self) -> Option<Reachable<'_>> {
        let guard = Reachable(self);
        // SAFETY: By the invariant the lock is initialised; the guard releases it.
        unsafe { bindings::down_read(memory_lock(*self)) };
        // SAFETY: By the invariant; the device is open, and the lock is held.
        unsafe { bindings::__vfio_pci_memory_enabled(self.as_ptr()) }.then_some(guard)
    }
}

/// Bytes of an entry of the MSI-X table.
pub(super) const ENTRY: usize = 16;

fn memory_lock(core: Core) -> *mut bindings::rw_semaphore {
    // SAFETY: By the invariant of `Core`; only the address is taken.
    unsafe { addr_of_mut!((*core.as_ptr()).memory_lock) }
}

/// The device's registers are reachable while this lives.
pub(crate) struct Reachable<'c>(&'c Core);

impl Drop for Reachable<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `Core::reachable` took the lock.
        unsafe { bindings::up_read(memory_lock(*self.0)) };
    }
}
