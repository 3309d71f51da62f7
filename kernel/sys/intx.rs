// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! INTx while it is enabled: its trigger and its resample eventfd. `handler.rs` has the handler and
//! the mask.

mod handler;

use super::bindings;
use super::irq::IrqName;
use super::{CoreDevice, Trigger};
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::Ordering;
use handler::{send_eventfd, unmask_handler, Shared};
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::ffi::c_void;
use kernel::prelude::*;
use vfio_irq_engine::{Errno, Mask};

/// INTx while it is enabled.
///
/// # Invariants
///
/// - The handler is installed with the address of `shared`. The virqfd, if one is enabled, has that
///   address too. `shared` is on the heap and stays there until both are gone.
/// - `shared.trigger` is the pointer of `trigger`, except within [`Intx::set_trigger`]. There the
///   old reference is put only after the handler and the virqfd's thread are done with it.
///
/// # Locks
///
/// - `igate` orders requests, configuration space and power management. Everything with `&mut self`
///   needs it, and so does a call of `signal`.
/// - `irqlock` guards `masked` and the hardware mask. The handler and the virqfd take it.
/// - No eventfd is signalled under `irqlock`. An eventfd wakes the virqfd under the eventfd's own
///   lock, and the virqfd takes `irqlock`: the opposite order would deadlock.
pub(crate) struct Intx {
    shared: KBox<Shared>,
    trigger: Option<Trigger>,
    /// The resample eventfd. C clears the pointer when user space closes the eventfd for good.
    virqfd: KBox<UnsafeCell<*mut bindings::virqfd>>,
}

// SAFETY: `shared` is atomic or guarded by `irqlock`; the owner alone uses the rest.
unsafe impl Send for Intx {}
// SAFETY: As above.
unsafe impl Sync for Intx {}

impl Intx {
    /// Installs the handler. INTx starts masked if the guest has set DisINTx. Returns ENODEV if the
    /// pin has no routed interrupt, ENOMEM, or the error of `request_irq`.
    pub(crate) fn enable(
        vdev: CoreDevice,
        name: IrqName,
        trigger: Option<Trigger>,
    ) -> Result<Self, Errno> {
        // SAFETY: By the invariant of `CoreDevice`; the PCI core sets it before a driver is bound.
        let irq = unsafe { (*vdev.pdev()).irq };
        if irq == 0 || irq == bindings::IRQ_NOTCONNECTED {
            return Err(Errno::ENODEV);
        }
        let shared = Shared::new(vdev, irq, name, pointer(trigger.as_ref()));
        let shared = KBox::new(shared, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
        let virqfd = KBox::new(UnsafeCell::new(null_mut()), GFP_KERNEL_ACCOUNT);
        let virqfd = virqfd.map_err(|_| Errno::ENOMEM)?;
        // The core reads `irq_type` outside `igate` as well, so it is set before the handler runs.
        vdev.set_irq_type(bindings::VFIO_PCI_INTX_IRQ_INDEX);
        if let Err(errno) = shared.install() {
            vdev.set_irq_type(bindings::VFIO_PCI_NUM_IRQS);
            return Err(errno);
        }
        // INVARIANT: Installed just now, with the address of a heap allocation.
        Ok(Self { shared, trigger, virqfd })
    }

    /// Returns the number of the interrupt in Linux.
    pub(crate) fn irq(&self) -> u32 {
        self.shared.irq
    }

    /// Returns how often the handler found that the function asserts INTx.
    pub(crate) fn signals(&self) -> u64 {
        self.shared.signals.load(Ordering::Relaxed)
    }

    /// Returns the mask of INTx.
    pub(crate) fn mask_state(&self) -> Mask {
        if self.shared.is_masked() {
            Mask::Masked
        } else {
            Mask::Unmasked
        }
    }

    /// Replaces or removes the trigger. After this returns, nothing signals the old one.
    pub(crate) fn set_trigger(&mut self, trigger: Option<Trigger>) {
        self.shared.trigger.store(pointer(trigger.as_ref()), Ordering::Release);
        let old = core::mem::replace(&mut self.trigger, trigger);
        if old.is_some() {
            // SAFETY: The handler is installed, and the caller holds no lock that it takes. The
            // address of the virqfd's pointer is valid.
            unsafe {
                bindings::synchronize_irq(self.shared.irq);
                bindings::vfio_virqfd_flush_thread(self.virqfd.get());
            }
        }
        drop(old);
    }

    /// Masks INTx. Returns true if it was unmasked.
    pub(crate) fn mask(&self) -> bool {
        self.shared.mask()
    }

    /// Unmasks INTx. If the function still asserts INTx, signals it again instead.
    pub(crate) fn unmask(&self) {
        if self.shared.unmask() {
            self.shared.signal();
        }
    }

    /// Signals the trigger, unless there is none or the guest has set DisINTx.
    pub(crate) fn signal(&self) {
        self.shared.signal();
    }

    /// Enables a resample eventfd: each signal of it unmasks INTx. Returns EBUSY if one is enabled,
    /// EBADF if the descriptor is not open, EINVAL if it is not an eventfd, or ENOMEM.
    pub(crate) fn virqfd_enable(&mut self, fd: i32) -> Result<(), Errno> {
        let shared: *const Shared = &*self.shared;
        let shared: *mut c_void = shared.cast_mut().cast();
        // SAFETY: `shared` and the address of the pointer are valid until `virqfd_disable`. Both
        // functions take a `Shared`.
        let ret = unsafe {
            bindings::vfio_virqfd_enable(
                shared,
                Some(unmask_handler),
                Some(send_eventfd),
                shared,
                self.virqfd.get(),
                fd,
            )
        };
        if ret == 0 {
            Ok(())
        } else {
            Err(Errno::from_raw(ret))
        }
    }

    /// Disables the resample eventfd, if one is enabled. After this returns, it unmasks nothing.
    pub(crate) fn virqfd_disable(&mut self) {
        // SAFETY: The address is valid. C checks whether there is a virqfd.
        unsafe { bindings::vfio_virqfd_disable(self.virqfd.get()) };
    }
}

/// Disables the resample eventfd and removes the handler.
impl Drop for Intx {
    fn drop(&mut self) {
        self.virqfd_disable();
        self.shared.uninstall();
        self.shared.vdev.set_irq_type(bindings::VFIO_PCI_NUM_IRQS);
    }
}

/// Returns the pointer of a trigger, or null.
fn pointer(trigger: Option<&Trigger>) -> *mut bindings::eventfd_ctx {
    trigger.map_or(null_mut(), Trigger::as_ptr)
}
