// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The handler of INTx, and the mask that it changes.
//!
//! A function with DisINTx (`pci_2_3`) may share its interrupt: the handler reads the status
//! register to find out whether this function asserts INTx. Any other function has the interrupt
//! for itself, and is masked at the interrupt controller.

use crate::sys::bindings::{self, irqreturn_t};
use crate::sys::irq::{irq_return, IrqName};
use crate::sys::CoreDevice;
use core::cell::UnsafeCell;
use core::ptr::{addr_of_mut, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use kernel::ffi::{c_int, c_void};
use kernel::irq::IrqReturn;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use vfio_irq_engine::Errno;

/// The part of INTx that the handler and the virqfd use.
pub(super) struct Shared {
    pub(super) vdev: CoreDevice,
    pub(super) irq: u32,
    /// The function has DisINTx.
    pci_2_3: bool,
    /// The eventfd to signal, or null.
    pub(super) trigger: AtomicPtr<bindings::eventfd_ctx>,
    pub(super) signals: AtomicU64,
    /// Guarded by `irqlock`.
    masked: UnsafeCell<bool>,
    name: IrqName,
}

impl Shared {
    /// Returns the state of a handler that is not installed yet, masked if the guest has set
    /// DisINTx.
    pub(super) fn new(
        vdev: CoreDevice,
        irq: u32,
        name: IrqName,
        trigger: *mut bindings::eventfd_ctx,
    ) -> Self {
        Self {
            vdev,
            irq,
            // SAFETY: By the invariant of `CoreDevice`; the core sets the bit when it opens the
            // device.
            pci_2_3: unsafe { bindings::vfio_pci_core_device::pci_2_3_raw(vdev.as_ptr()) },
            trigger: AtomicPtr::new(trigger),
            signals: AtomicU64::new(0),
            masked: UnsafeCell::new(vdev.virq_disabled()),
            name,
        }
    }

    /// Installs the handler. Returns the error of `request_irq`.
    pub(super) fn install(&self) -> Result<(), Errno> {
        let masked = self.is_masked();
        let flags = if self.pci_2_3 {
            // SAFETY: The PCI device is live.
            unsafe { bindings::pci_intx(self.vdev.pdev(), c_int::from(!masked)) };
            bindings::IRQF_SHARED
        } else {
            // SAFETY: The interrupt is the device's, and has no handler.
            unsafe { bindings::irq_modify_status(self.irq, 0, bindings::IRQ_DISABLE_UNLAZY as _) };
            if masked {
                bindings::IRQF_NO_AUTOEN
            } else {
                0
            }
        };
        // SAFETY: `self` is on the heap, and stays there until `uninstall`; the handler takes a
        // `Shared`.
        let ret = unsafe {
            bindings::request_threaded_irq(
                self.irq,
                Some(intx_handler),
                None,
                (flags | bindings::IRQF_COND_ONESHOT) as _,
                self.name.as_ptr(),
                core::ptr::from_ref(self).cast_mut().cast(),
            )
        };
        if ret == 0 {
            return Ok(());
        }
        self.clear_unlazy();
        Err(Errno::from_raw(ret))
    }

    /// Removes the handler. No handler runs when this returns.
    pub(super) fn uninstall(&self) {
        // SAFETY: `install` installed the handler with this address.
        unsafe { bindings::free_irq(self.irq, core::ptr::from_ref(self).cast_mut().cast()) };
        self.clear_unlazy();
    }

    fn clear_unlazy(&self) {
        if !self.pci_2_3 {
            // SAFETY: The interrupt is the device's.
            unsafe { bindings::irq_modify_status(self.irq, bindings::IRQ_DISABLE_UNLAZY as _, 0) };
        }
    }

    /// Calls `act` with `masked`, and holds `irqlock` meanwhile. Returns what `act` returns.
    #[inline]
    fn with_irqlock<R>(&self, act: impl FnOnce(&mut bool) -> R) -> R {
        // SAFETY: By the invariant of `CoreDevice` the lock is initialised; it guards `masked`.
        unsafe {
            let flags = bindings::vfio_pci_irq_lock(self.vdev.as_ptr());
            let result = act(&mut *self.masked.get());
            bindings::vfio_pci_irq_unlock(self.vdev.as_ptr(), flags);
            result
        }
    }

    pub(super) fn is_masked(&self) -> bool {
        self.with_irqlock(|masked| *masked)
    }

    /// Masks INTx. Returns true if it was unmasked.
    pub(super) fn mask(&self) -> bool {
        self.with_irqlock(|masked| {
            if *masked {
                return false;
            }
            // SAFETY: The PCI device is live, and the handler is installed; neither call sleeps.
            unsafe {
                if self.pci_2_3 {
                    bindings::pci_intx(self.vdev.pdev(), 0);
                } else {
                    bindings::disable_irq_nosync(self.irq);
                }
            }
            *masked = true;
            true
        })
    }

    /// Unmasks INTx, unless the guest has set DisINTx. Returns true if the function still asserts
    /// INTx. INTx stays masked then, and the caller signals the trigger without `irqlock`.
    pub(super) fn unmask(&self) -> bool {
        self.with_irqlock(|masked| {
            if !*masked || self.vdev.virq_disabled() {
                return false;
            }
            // SAFETY: The PCI device is live, and the handler is installed; neither call sleeps.
            *masked = unsafe {
                if self.pci_2_3 {
                    !bindings::pci_check_and_unmask_intx(self.vdev.pdev())
                } else {
                    bindings::enable_irq(self.irq);
                    false
                }
            };
            *masked
        })
    }

    /// Signals the trigger, unless there is none or the guest has set DisINTx.
    #[inline]
    pub(super) fn signal(&self) {
        if self.vdev.virq_disabled() {
            return;
        }
        if let Some(trigger) = NonNull::new(self.trigger.load(Ordering::Acquire)) {
            // SAFETY: A reference is put only after all that may have loaded its pointer are done:
            // the handler, the virqfd's thread, and holders of `igate`.
            unsafe { bindings::eventfd_signal_mask(trigger.as_ptr(), 0) };
        }
    }
}

/// Masks INTx and signals the trigger, if this function asserts INTx.
///
/// # Safety
///
/// `dev_id` is a `Shared` that outlives the handler.
unsafe extern "C" fn intx_handler(_irq: c_int, dev_id: *mut c_void) -> irqreturn_t {
    // SAFETY: By the function's requirement.
    let shared = unsafe { &*dev_id.cast::<Shared>() };
    let asserted = shared.with_irqlock(|masked| {
        // SAFETY: The PCI device is live, and the handler is installed; neither call sleeps.
        let asserted = unsafe {
            if shared.pci_2_3 {
                !*masked && bindings::pci_check_and_mask_intx(shared.vdev.pdev())
            } else {
                bindings::disable_irq_nosync(shared.irq);
                true
            }
        };
        *masked |= asserted;
        asserted
    });
    if !asserted {
        return irq_return(IrqReturn::None);
    }
    let signals = shared.signals.load(Ordering::Relaxed);
    shared.signals.store(signals.wrapping_add(1), Ordering::Relaxed);
    shared.signal();
    irq_return(IrqReturn::Handled)
}

/// Unmasks INTx when the resample eventfd is signalled. Returns non-zero if the function still
/// asserts INTx: C then calls [`send_eventfd`] in a thread. The trigger may be the same eventfd,
/// whose lock is held here.
///
/// # Safety
///
/// `shared` is a `Shared` that is valid until the virqfd is disabled.
pub(super) unsafe extern "C" fn unmask_handler(shared: *mut c_void, _: *mut c_void) -> c_int {
    // SAFETY: By the function's requirement.
    c_int::from(unsafe { &*shared.cast::<Shared>() }.unmask())
}

/// Signals the trigger.
///
/// # Safety
///
/// As for [`unmask_handler`].
pub(super) unsafe extern "C" fn send_eventfd(shared: *mut c_void, _: *mut c_void) {
    // SAFETY: By the function's requirement.
    unsafe { &*shared.cast::<Shared>() }.signal();
}

impl CoreDevice {
    /// Sets or clears DisINTx of a device whose INTx is not active, as the guest has written it.
    /// Does nothing if the function has no such bit (`pci_2_3`).
    pub(crate) fn write_disintx(self, disintx: bool) {
        // SAFETY: By the invariant of `CoreDevice`; `irqlock` guards the bit here too.
        unsafe {
            if bindings::vfio_pci_core_device::pci_2_3_raw(self.as_ptr()) {
                let flags = bindings::vfio_pci_irq_lock(self.as_ptr());
                bindings::pci_intx(self.pdev(), c_int::from(!disintx));
                bindings::vfio_pci_irq_unlock(self.as_ptr(), flags);
            }
        }
    }

    /// Returns true if the guest has set DisINTx. The core changes `virq_disabled` without a lock,
    /// and masks or unmasks INTx after each change.
    #[inline]
    fn virq_disabled(self) -> bool {
        // SAFETY: By the invariant of `CoreDevice`; a byte that C reads and writes as a whole.
        unsafe { Atomic::from_ptr(addr_of_mut!((*self.as_ptr()).virq_disabled)).load(Relaxed) }
    }
}
