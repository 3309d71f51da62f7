// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! One MSI or MSI-X interrupt with a handler that signals an eventfd.

use super::bindings::{self, irqreturn_t};
use super::irq::{irq_return, IrqName};
use super::{CoreDevice, Trigger};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::ffi::{c_int, c_void};
use kernel::irq::IrqReturn;
use kernel::prelude::*;
use vfio_irq_engine::Errno;

/// The part that the handler reads. C does not read it, so the atomics are those of `core`: the
/// kernel crate's are calls into C, and the handler would make four of them.
struct Shared {
    /// The eventfd to signal.
    trigger: AtomicPtr<bindings::eventfd_ctx>,
    /// Interrupts signalled. Handlers of one interrupt never overlap, so there is one writer.
    signals: AtomicU64,
    producer: UnsafeCell<bindings::irq_bypass_producer>,
    name: IrqName,
}

/// An interrupt that is requested. It starts disabled, and [`Interrupt::unmask`] enables it.
///
/// # Invariants
///
/// - While `installed`, the handler is installed with the address of `shared`, which is on the heap
///   and stays there until `free_irq` has returned.
/// - `shared.trigger` is the pointer of `trigger`, except within [`Interrupt::set_trigger`]. There
///   the old reference is put only after every handler that may have loaded it has returned.
/// - `producer` is registered if and only if its `eventfd` is set, and not after the handler is
///   gone.
///
/// # Locks
///
/// The handler takes none. Everything else has `&mut self`, which `igate` orders. No function here
/// is called with a lock that the handler takes, so `synchronize_irq`, `disable_irq` and `free_irq`
/// may wait for the handler. irq bypass consumers take locks of their own, so producers are
/// registered and unregistered without `memory_lock`.
pub(crate) struct Interrupt {
    shared: KBox<Shared>,
    trigger: Trigger,
    irq: u32,
    /// `IRQ_DISABLE_UNLAZY` is set: `disable_irq` sets the mask bit at once. Without the flag,
    /// Linux sets it when the next interrupt arrives.
    unlazy: bool,
    installed: bool,
}

// SAFETY: The handler reads `shared` through atomics; the owner alone uses the rest.
unsafe impl Send for Interrupt {}
// SAFETY: As above; `producer` is used through `&mut` only.
unsafe impl Sync for Interrupt {}

impl Interrupt {
    /// Installs the handler, with the interrupt disabled. Requires `memory_lock` for writing.
    /// Returns ENOMEM, or the error of `request_irq`.
    pub(crate) fn request(irq: u32, name: IrqName, trigger: Trigger) -> Result<Self, Errno> {
        let shared = Shared {
            trigger: AtomicPtr::new(trigger.as_ptr()),
            signals: AtomicU64::new(0),
            // SAFETY: All zeroes are a producer that is not registered.
            producer: UnsafeCell::new(unsafe { core::mem::zeroed() }),
            name,
        };
        let shared = KBox::new(shared, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
        let dev_id: *const Shared = &*shared;
        // SAFETY: `dev_id` and the name in it stay valid until `free_irq` in `uninstall`; the
        // handler takes a `Shared`.
        let ret = unsafe {
            bindings::request_threaded_irq(
                irq,
                Some(msi_handler),
                None,
                (bindings::IRQF_NO_AUTOEN | bindings::IRQF_COND_ONESHOT) as _,
                shared.name.as_ptr(),
                dev_id.cast_mut().cast(),
            )
        };
        if ret != 0 {
            return Err(Errno::from_raw(ret));
        }
        // INVARIANT: Installed just now, with the address of a heap allocation.
        Ok(Self { shared, trigger, irq, unlazy: false, installed: true })
    }

    /// Returns the number of the interrupt in Linux.
    pub(crate) fn irq(&self) -> u32 {
        self.irq
    }

    /// Returns how often the handler ran.
    pub(crate) fn signals(&self) -> u64 {
        self.shared.signals.load(Ordering::Relaxed)
    }

    /// Returns true if the interrupt signals this eventfd.
    pub(crate) fn has_trigger(&self, trigger: &Trigger) -> bool {
        self.trigger.as_ptr() == trigger.as_ptr()
    }

    /// Signals the eventfd as the handler does, without counting an interrupt.
    pub(crate) fn signal(&self) {
        self.trigger.signal();
    }

    /// Enables the interrupt: once after [`Interrupt::request`], and once after each
    /// [`Interrupt::mask`]. Requires either side of `memory_lock`.
    #[inline]
    pub(crate) fn unmask(&mut self) {
        // SAFETY: By the invariant the interrupt is requested, and it is disabled.
        unsafe { bindings::enable_irq(self.irq) };
    }

    /// Sets the mask bit in the device and waits for a handler in flight. Requires either side of
    /// `memory_lock`.
    #[inline]
    pub(crate) fn mask(&mut self) {
        // The GICv4 driver of arm64 clears the flag when a bypass consumer is unregistered.
        if !self.unlazy || cfg!(CONFIG_ARM64) {
            // SAFETY: The interrupt is requested. `free_irq` clears the flag.
            unsafe { bindings::irq_modify_status(self.irq, 0, bindings::IRQ_DISABLE_UNLAZY as _) };
            self.unlazy = true;
        }
        // SAFETY: The interrupt is requested. The caller holds no lock that the handler takes.
        unsafe { bindings::disable_irq(self.irq) };
    }

    /// Replaces the trigger. The vector stays unmasked meanwhile, so an interrupt signals the old
    /// eventfd or the new one. After this returns, nothing signals the old one.
    pub(crate) fn set_trigger(&mut self, trigger: Trigger) {
        self.shared.trigger.store(trigger.as_ptr(), Ordering::Release);
        // SAFETY: The interrupt is requested, and the caller holds no lock that the handler takes.
        unsafe { bindings::synchronize_irq(self.irq) };
        // INVARIANT: The pointer was stored above. Every handler that may have loaded the old one
        // has returned, so its reference can be put (use after free otherwise).
        self.trigger = trigger;
    }

    /// Registers the interrupt as an irq bypass producer. The eventfd's consumer, a KVM irqfd, may
    /// then deliver it without the handler. Does nothing if it is registered already.
    ///
    /// Failure is harmless: an eventfd takes one bypass producer, and the handler signals it
    /// otherwise.
    pub(crate) fn register_irq_bypass(&mut self, vdev: CoreDevice) {
        let producer = self.shared.producer.get();
        // SAFETY: The producer stays where it is until it is unregistered. C clears `eventfd` then.
        let ret = unsafe {
            if !(*producer).eventfd.is_null() {
                return;
            }
            bindings::irq_bypass_register_producer(
                producer,
                self.trigger.as_ptr(),
                self.irq as c_int,
            )
        };
        if ret != 0 {
            pr_info!("{}: no irq bypass for irq {} ({})\n", vdev.pci_name(), self.irq, ret);
        }
    }

    /// Unregisters the irq bypass producer. The handler signals the interrupts from now on.
    pub(crate) fn unregister_irq_bypass(&mut self) {
        // SAFETY: The call does nothing for a producer that is not registered.
        unsafe { bindings::irq_bypass_unregister_producer(self.shared.producer.get()) };
    }

    /// Removes the handler. Requires `memory_lock` for writing. Returns how often the handler ran.
    pub(crate) fn free(mut self) -> u64 {
        self.uninstall();
        self.signals()
    }

    fn uninstall(&mut self) {
        if !core::mem::take(&mut self.installed) {
            return;
        }
        self.unregister_irq_bypass();
        let dev_id: *const Shared = &*self.shared;
        // SAFETY: By the invariant the handler is installed with this address. When the call
        // returns, no handler runs, so `shared` and then the trigger may be dropped.
        unsafe { bindings::free_irq(self.irq, dev_id.cast_mut().cast()) };
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.uninstall();
    }
}

/// Counts the interrupt, and signals the eventfd. Takes no lock.
///
/// # Safety
///
/// `dev_id` is a `Shared` that outlives the handler.
unsafe extern "C" fn msi_handler(_irq: c_int, dev_id: *mut c_void) -> irqreturn_t {
    // SAFETY: By the function's requirement.
    let shared = unsafe { &*dev_id.cast::<Shared>() };
    shared.signals.store(shared.signals.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    // SAFETY: A reference is put only after the handlers that may have loaded its pointer returned.
    unsafe { bindings::eventfd_signal_mask(shared.trigger.load(Ordering::Acquire), 0) };
    irq_return(IrqReturn::Handled)
}
