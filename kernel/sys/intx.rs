// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! INTx: one handler on a line that may be shared, and its mask.
//!
//! A function that can be masked in its command register (`pci_2_3`) shares the line: the handler asks
//! the function whether it raised it. Any other function has the line for itself, and is masked at the
//! interrupt controller.
//!
//! # Locks
//!
//! `igate` orders requests, configuration space and power management. `irqlock` guards `masked` and
//! the hardware mask, which the handler and the resample eventfd change as well. `irqlock` is never
//! held while an eventfd is signalled: the resample eventfd takes it within its own lock.

use super::bindings::{self, irqreturn_t};
use super::msi::{irq_return, joined};
use super::{Core, Trigger};
use core::cell::UnsafeCell;
use core::ptr::{addr_of_mut, null_mut, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::ffi::{c_int, c_void};
use kernel::irq::IrqReturn;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use vfio_irq_engine::{Errno, Mask};

/// What the handler and the resample eventfd reach.
struct Shared {
    core: Core,
    irq: u32,
    /// The function can be masked in its command register.
    pci_2_3: bool,
    /// The eventfd to signal, or null.
    target: AtomicPtr<bindings::eventfd_ctx>,
    signals: AtomicU64,
    /// Guarded by `irqlock`.
    masked: UnsafeCell<bool>,
    name: [u8; 48],
}

/// INTx while it is enabled.
///
/// # Invariants
///
/// The handler is installed with the address of `shared`, and the resample eventfd, if one is armed,
/// knows it too. `shared.target` is `trigger`, except within [`Intx::set_target`].
pub(crate) struct Intx {
    shared: KBox<Shared>,
    trigger: Option<Trigger>,
    /// The resample eventfd. C clears it when user space closes the eventfd for good.
    resample: KBox<UnsafeCell<*mut bindings::virqfd>>,
}

// SAFETY: What is shared is atomic or guarded by `irqlock`; the owner alone reaches the rest.
unsafe impl Send for Intx {}
// SAFETY: As above.
unsafe impl Sync for Intx {}

impl Intx {
    /// Installs the handler. The line starts masked if the guest has set DisINTx. Returns `ENODEV` if
    /// the pin has no routed interrupt.
    pub(crate) fn enable(core: Core, trigger: Option<Trigger>) -> Result<Self, Errno> {
        // SAFETY: By the invariant of `Core`; the core sets these before or when the device is
        // opened, and changes `virq_disabled` for user space, which cannot rely on an order here.
        let (irq, pci_2_3, masked) = unsafe {
            let device = core.as_ptr();
            let disabled = Atomic::from_ptr(addr_of_mut!((*device).virq_disabled)).load(Relaxed);
            let pci_2_3 = bindings::vfio_pci_core_device::pci_2_3_raw(device);
            ((*core.pdev()).irq, pci_2_3, disabled)
        };
        if irq == 0 || irq == bindings::IRQ_NOTCONNECTED {
            return Err(Errno::ENODEV);
        }
        let shared = Shared {
            core,
            irq,
            pci_2_3,
            target: AtomicPtr::new(trigger.as_ref().map_or(null_mut(), Trigger::as_ptr)),
            signals: AtomicU64::new(0),
            masked: UnsafeCell::new(masked),
            name: joined([b"vfio-intx(", core.name().to_bytes(), b")"]),
        };
        let shared = KBox::new(shared, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
        let resample = KBox::new(UnsafeCell::new(null_mut()), GFP_KERNEL_ACCOUNT);
        let resample = resample.map_err(|_| Errno::ENOMEM)?;
        // The core reads it for what it does outside `igate`, so it is set before the handler runs.
        core.set_irq_type(bindings::VFIO_PCI_INTX_IRQ_INDEX);
        if let Err(errno) = shared.install(masked) {
            core.set_irq_type(bindings::VFIO_PCI_NUM_IRQS);
            return Err(errno);
        }
        // INVARIANT: Installed just now, with the address of a heap allocation.
        Ok(Self { shared, trigger, resample })
    }

    /// Returns the number of the interrupt in Linux.
    pub(crate) fn irq(&self) -> u32 {
        self.shared.irq
    }

    /// Returns how often the handler found the function asserting the line.
    pub(crate) fn signals(&self) -> u64 {
        self.shared.signals.load(Ordering::Relaxed)
    }

    pub(crate) fn is_masked(&self) -> bool {
        self.shared.locked(|masked| *masked)
    }

    /// Replaces the trigger, or takes it away. An old trigger is not signalled any more when this
    /// returns.
    pub(crate) fn set_target(&mut self, trigger: Option<Trigger>) {
        let target = trigger.as_ref().map_or(null_mut(), Trigger::as_ptr);
        self.shared.target.store(target, Ordering::Release);
        let old = core::mem::replace(&mut self.trigger, trigger);
        if old.is_some() {
            // SAFETY: The handler is installed, and the caller holds no lock that it takes. The place
            // of the virqfd is valid.
            unsafe {
                bindings::synchronize_irq(self.shared.irq);
                bindings::vfio_virqfd_flush_thread(self.resample.get());
            }
        }
        drop(old);
    }

    /// Masks the line. Returns true if it was not masked.
    pub(crate) fn mask(&self) -> bool {
        let shared = &self.shared;
        shared.locked(|masked| {
            if *masked {
                return false;
            }
            shared.mask_hardware();
            *masked = true;
            true
        })
    }

    /// Unmasks the line. A line that the function still asserts signals again instead.
    pub(crate) fn unmask(&self) {
        if self.shared.unmask() {
            self.shared.signal();
        }
    }

    pub(crate) fn set_mask(&self, mask: Mask) {
        match mask {
            Mask::Masked => drop(self.mask()),
            Mask::Unmasked => self.unmask(),
        }
    }

    /// Signals the trigger, if there is one and the guest has not set DisINTx.
    pub(crate) fn signal(&self) {
        self.shared.signal();
    }

    /// Has an eventfd unmask the line whenever it is signalled. Returns `EBUSY` if one is armed,
    /// `EBADF`, `EINVAL` for a file that is no eventfd, or `ENOMEM`.
    pub(crate) fn arm(&mut self, fd: i32) -> Result<(), Errno> {
        let shared: *const Shared = &*self.shared;
        // SAFETY: `shared` and the place of the virqfd are valid until `disarm`; both functions take
        // a `Shared`.
        let ret = unsafe {
            bindings::vfio_virqfd_enable(
                shared.cast_mut().cast(),
                Some(resampled),
                Some(still_asserted),
                shared.cast_mut().cast(),
                self.resample.get(),
                fd,
            )
        };
        if ret == 0 {
            Ok(())
        } else {
            Err(Errno::from_raw(ret))
        }
    }

    /// Undoes [`Intx::arm`]. When this returns, the eventfd unmasks nothing any more.
    pub(crate) fn disarm(&mut self) {
        // SAFETY: The place is valid; C looks whether there is a virqfd.
        unsafe { bindings::vfio_virqfd_disable(self.resample.get()) };
    }
}

/// Takes the resample eventfd and the handler away.
impl Drop for Intx {
    fn drop(&mut self) {
        self.disarm();
        self.shared.uninstall();
        self.shared.core.set_irq_type(bindings::VFIO_PCI_NUM_IRQS);
    }
}

impl Shared {
    /// Runs `act` on `masked` under `irqlock`.
    #[inline]
    fn locked<R>(&self, act: impl FnOnce(&mut bool) -> R) -> R {
        // SAFETY: By the invariant of `Core` the lock is initialised; it guards `masked`.
        unsafe {
            let flags = bindings::vfio_pci_irq_lock(self.core.as_ptr());
            let result = act(&mut *self.masked.get());
            bindings::vfio_pci_irq_unlock(self.core.as_ptr(), flags);
            result
        }
    }

    fn install(&self, masked: bool) -> Result<(), Errno> {
        let flags = if self.pci_2_3 {
            // SAFETY: The PCI device is live.
            unsafe { bindings::pci_intx(self.core.pdev(), c_int::from(!masked)) };
            bindings::IRQF_SHARED
        } else {
            // SAFETY: The interrupt is the device's; nothing is installed on it.
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
                Some(handler),
                None,
                (flags | bindings::IRQF_COND_ONESHOT) as _,
                self.name.as_ptr().cast(),
                core::ptr::from_ref(self).cast_mut().cast(),
            )
        };
        if ret == 0 {
            return Ok(());
        }
        self.forget_unlazy();
        Err(Errno::from_raw(ret))
    }

    fn uninstall(&self) {
        // SAFETY: `install` installed the handler with this address. No handler runs when this
        // returns.
        unsafe { bindings::free_irq(self.irq, core::ptr::from_ref(self).cast_mut().cast()) };
        self.forget_unlazy();
    }

    fn forget_unlazy(&self) {
        if !self.pci_2_3 {
            // SAFETY: The interrupt is the device's.
            unsafe { bindings::irq_modify_status(self.irq, bindings::IRQ_DISABLE_UNLAZY as _, 0) };
        }
    }

    fn mask_hardware(&self) {
        // SAFETY: The PCI device is live, and the handler is installed; neither call sleeps.
        unsafe {
            if self.pci_2_3 {
                bindings::pci_intx(self.core.pdev(), 0);
            } else {
                bindings::disable_irq_nosync(self.irq);
            }
        }
    }

    /// Unmasks the line, unless the guest has set DisINTx. Returns true if the function still asserts
    /// the line: it stays masked then, and is due to be signalled again.
    fn unmask(&self) -> bool {
        self.locked(|masked| {
            if !*masked || self.is_disabled_by_guest() {
                return false;
            }
            // SAFETY: The PCI device is live, and the handler is installed; neither call sleeps.
            *masked = unsafe {
                if self.pci_2_3 {
                    !bindings::pci_check_and_unmask_intx(self.core.pdev())
                } else {
                    bindings::enable_irq(self.irq);
                    false
                }
            };
            *masked
        })
    }

    /// Returns true if the guest has set DisINTx in its command register. The core changes it outside
    /// all locks, and masks or unmasks after the change.
    #[inline]
    fn is_disabled_by_guest(&self) -> bool {
        // SAFETY: By the invariant of `Core`; a byte that C reads and writes as a whole.
        unsafe { Atomic::from_ptr(addr_of_mut!((*self.core.as_ptr()).virq_disabled)).load(Relaxed) }
    }

    #[inline]
    fn signal(&self) {
        if self.is_disabled_by_guest() {
            return;
        }
        if let Some(target) = NonNull::new(self.target.load(Ordering::Acquire)) {
            // SAFETY: The reference to a target is put only after those that may have read it are
            // done: the handler, the virqfd's thread, and holders of `igate`.
            unsafe { bindings::eventfd_signal_mask(target.as_ptr(), 0) };
        }
    }
}

/// # Safety
///
/// `data` is a `Shared` that outlives the handler.
unsafe extern "C" fn handler(_irq: c_int, data: *mut c_void) -> irqreturn_t {
    // SAFETY: Requested with a `Shared` that is valid until the handler is freed.
    let shared = unsafe { &*data.cast::<Shared>() };
    let is_ours = shared.locked(|masked| {
        // SAFETY: The PCI device is live, and the handler is installed; neither call sleeps.
        let is_ours = unsafe {
            if shared.pci_2_3 {
                !*masked && bindings::pci_check_and_mask_intx(shared.core.pdev())
            } else {
                bindings::disable_irq_nosync(shared.irq);
                true
            }
        };
        *masked |= is_ours;
        is_ours
    });
    if !is_ours {
        return irq_return(IrqReturn::None);
    }
    let signals = shared.signals.load(Ordering::Relaxed);
    shared.signals.store(signals.wrapping_add(1), Ordering::Relaxed);
    shared.signal();
    irq_return(IrqReturn::Handled)
}

/// The resample eventfd was signalled. Its lock is held, so that the trigger, which may be the same
/// eventfd, is signalled by [`still_asserted`] if this returns non-zero.
///
/// # Safety
///
/// `shared` is a `Shared` that is valid until the virqfd is disabled.
unsafe extern "C" fn resampled(shared: *mut c_void, _: *mut c_void) -> c_int {
    // SAFETY: By the function's requirement.
    c_int::from(unsafe { &*shared.cast::<Shared>() }.unmask())
}

/// # Safety
///
/// As for [`resampled`].
unsafe extern "C" fn still_asserted(shared: *mut c_void, _: *mut c_void) {
    // SAFETY: By the function's requirement.
    unsafe { &*shared.cast::<Shared>() }.signal();
}

/// The mask of a device whose INTx is not active: the hardware bit follows the guest's DisINTx.
pub(super) fn follow_guest(core: Core, enabled: bool) {
    // SAFETY: By the invariant of `Core`; `irqlock` guards the bit, as where INTx is active.
    unsafe {
        if bindings::vfio_pci_core_device::pci_2_3_raw(core.as_ptr()) {
            let flags = bindings::vfio_pci_irq_lock(core.as_ptr());
            bindings::pci_intx(core.pdev(), c_int::from(enabled));
            bindings::vfio_pci_irq_unlock(core.as_ptr(), flags);
        }
    }
}
