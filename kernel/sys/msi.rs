// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! One MSI or MSI-X interrupt with a handler that signals an eventfd.

use super::bindings::{self, irqreturn_t};
use super::{Core, Trigger};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::ffi::{c_int, c_void};
use kernel::irq::IrqReturn;
use kernel::prelude::*;
use vfio_irq_engine::{Errno, MsiType};

/// Room for `vfio-msix[2047](0000:00:00.0)` and for domains of eight digits.
const NAME: usize = 48;

/// What the handler reaches. C does not, so these are Rust's own atomics: the kernel crate's are calls
/// into C, of which the handler would make four.
struct Shared {
    /// The eventfd to signal: always one that the [`Interrupt`] holds a reference to, or held until
    /// no handler was running any more.
    target: AtomicPtr<bindings::eventfd_ctx>,
    /// Interrupts signalled. Handlers of one interrupt never overlap, so one writes at a time.
    signals: AtomicU64,
    producer: UnsafeCell<bindings::irq_bypass_producer>,
    name: [u8; NAME],
}

/// A requested interrupt. It is requested disabled; [`Interrupt::unmask`] lets it through.
///
/// # Invariants
///
/// While `installed`, the handler is there with the address of `shared`, which stays where it is
/// until the handler is gone. `shared.target` is `trigger`, except within [`Interrupt::retarget`].
pub(crate) struct Interrupt {
    shared: KBox<Shared>,
    trigger: Trigger,
    irq: u32,
    /// Whether masking reaches the device at once, and not when the next interrupt arrives.
    unlazy: bool,
    installed: bool,
}

// SAFETY: The handler reaches `shared` through atomics; the owner alone reaches the rest.
unsafe impl Send for Interrupt {}
// SAFETY: As above; `producer` is reached through `&mut` only.
unsafe impl Sync for Interrupt {}

impl Interrupt {
    /// Installs the handler, with the interrupt disabled. Memory is locked.
    pub(crate) fn request(
        core: Core,
        msi_type: MsiType,
        number: u32,
        irq: u32,
        trigger: Trigger,
    ) -> Result<Self, Errno> {
        let shared = Shared {
            target: AtomicPtr::new(trigger.as_ptr()),
            signals: AtomicU64::new(0),
            // SAFETY: All zeroes are a producer that is not registered.
            producer: UnsafeCell::new(unsafe { core::mem::zeroed() }),
            name: name(&core, msi_type, number),
        };
        let shared = KBox::new(shared, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
        let data: *const Shared = &*shared;
        // SAFETY: `data` and the name in it stay valid until `free_irq` in `uninstall`; the handler
        // takes a `Shared`.
        let ret = unsafe {
            bindings::request_threaded_irq(
                irq,
                Some(handler),
                None,
                (bindings::IRQF_NO_AUTOEN | bindings::IRQF_COND_ONESHOT) as _,
                shared.name.as_ptr().cast(),
                data.cast_mut().cast(),
            )
        };
        if ret != 0 {
            return Err(Errno::from_raw(ret));
        }
        // INVARIANT: Installed just now, with the address of a heap allocation.
        Ok(Self { shared, trigger, irq, unlazy: false, installed: true })
    }

    /// Returns its number in Linux.
    pub(crate) fn irq(&self) -> u32 {
        self.irq
    }

    /// Returns how often the handler ran.
    pub(crate) fn signals(&self) -> u64 {
        self.shared.signals.load(Ordering::Relaxed)
    }

    pub(crate) fn targets(&self, trigger: &Trigger) -> bool {
        self.trigger.as_ptr() == trigger.as_ptr()
    }

    /// Signals the eventfd as the handler does, but is not counted as an interrupt.
    pub(crate) fn signal(&self) {
        self.trigger.signal();
    }

    /// Lets interrupts through. Once for each [`Interrupt::mask`], and once at first. The device's
    /// registers are reachable.
    #[inline]
    pub(crate) fn unmask(&mut self) {
        // SAFETY: By the invariant the interrupt is requested, and it is disabled.
        unsafe { bindings::enable_irq(self.irq) };
    }

    /// Masks the vector in the device and waits for a handler in flight. The device's registers are
    /// reachable.
    #[inline]
    pub(crate) fn mask(&mut self) {
        // The GICv4 driver of arm64 clears the flag when a consumer of the bypass goes.
        if !self.unlazy || cfg!(CONFIG_ARM64) {
            // SAFETY: The interrupt is requested; the flag goes away with its handler.
            unsafe { bindings::irq_modify_status(self.irq, 0, bindings::IRQ_DISABLE_UNLAZY as _) };
            self.unlazy = true;
        }
        // SAFETY: The interrupt is requested. The caller holds no lock that the handler takes.
        unsafe { bindings::disable_irq(self.irq) };
    }

    /// Signals another eventfd from now on. The vector is open all the while: an interrupt is
    /// signalled on the old eventfd or on the new one.
    pub(crate) fn retarget(&mut self, trigger: Trigger) {
        self.shared.target.store(trigger.as_ptr(), Ordering::Release);
        // SAFETY: The interrupt is requested, and the caller holds no lock that the handler takes. A
        // handler that has read the old target is done when this returns; only then is its reference
        // put.
        unsafe { bindings::synchronize_irq(self.irq) };
        // INVARIANT: The target was set above.
        self.trigger = trigger;
    }

    /// Offers the interrupt to the consumer of the eventfd in the kernel (a KVM irqfd), which may
    /// then deliver it without the handler. Failure is harmless: an eventfd takes one producer. Does
    /// nothing if the interrupt is offered already.
    pub(crate) fn register_irq_bypass(&mut self, core: Core) {
        let producer = self.shared.producer.get();
        // SAFETY: The producer stays where it is until it is unregistered; C clears `eventfd` then.
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
            pr_info!("{}: no irq bypass for irq {} ({})\n", core.name(), self.irq, ret);
        }
    }

    /// Withdraws the offer. Interrupts go through the handler.
    pub(crate) fn unregister_irq_bypass(&mut self) {
        // SAFETY: `register_irq_bypass` registered it, or it never was: the call looks.
        unsafe { bindings::irq_bypass_unregister_producer(self.shared.producer.get()) };
    }

    /// Takes the handler away. Returns how often it ran. Memory is locked.
    pub(crate) fn free(mut self) -> u64 {
        self.uninstall();
        self.signals()
    }

    fn uninstall(&mut self) {
        if !core::mem::take(&mut self.installed) {
            return;
        }
        self.unregister_irq_bypass();
        let data: *const Shared = &*self.shared;
        // SAFETY: By the invariant the handler is installed with this address. When this returns no
        // handler runs, so that `shared` and then the trigger may go.
        unsafe { bindings::free_irq(self.irq, data.cast_mut().cast()) };
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.uninstall();
    }
}

/// Returns a handler's answer as the C type that kCFI checks: a type of its own from Linux 7.3 on, a
/// plain number before.
pub(super) const fn irq_return(answer: IrqReturn) -> irqreturn_t {
    // SAFETY: Both are an `unsigned int`, and the kernel's crate takes its values from C's.
    unsafe { core::mem::transmute::<u32, irqreturn_t>(answer as u32) }
}

/// Counts, and signals the eventfd. Takes no lock.
///
/// # Safety
///
/// `data` is a `Shared` that outlives the handler.
unsafe extern "C" fn handler(_irq: c_int, data: *mut c_void) -> irqreturn_t {
    // SAFETY: Requested with a `Shared` that is valid until the handler is freed.
    let shared = unsafe { &*data.cast::<Shared>() };
    shared.signals.store(shared.signals.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    // SAFETY: The reference to a target is put only after handlers that may have read it are done.
    unsafe { bindings::eventfd_signal_mask(shared.target.load(Ordering::Acquire), 0) };
    irq_return(IrqReturn::Handled)
}

/// Returns the handler's name as Linux has it; others look for it (`CONTRACT.md`, V-11). By hand:
/// formatting takes 1,250 instructions more, at every attach.
fn name(core: &Core, msi_type: MsiType, number: u32) -> [u8; NAME] {
    let msi_type: &[u8] = match msi_type {
        MsiType::Msi => b"vfio-msi[",
        MsiType::Msix => b"vfio-msix[",
    };
    let mut digits = [0; DIGITS];
    joined([msi_type, decimal(number, &mut digits), b"](", core.name().to_bytes(), b")"])
}

/// Returns the parts one after the other, ended by a zero. A part that does not fit is left out.
pub(super) fn joined<const PARTS: usize>(parts: [&[u8]; PARTS]) -> [u8; NAME] {
    let mut name = [0; NAME];
    let mut at = 0;
    for part in parts {
        let end = at + part.len();
        if let Some(room) = name.get_mut(at..end).filter(|_| end < NAME) {
            room.copy_from_slice(part);
            at = end;
        }
    }
    name
}

/// Digits of the largest number.
const DIGITS: usize = 10;

/// Returns a number as digits, in the end of `room`.
fn decimal(mut number: u32, room: &mut [u8; DIGITS]) -> &[u8] {
    let mut from = DIGITS;
    for (at, digit) in room.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        from = at;
        if number == 0 {
            break;
        }
    }
    room.get(from..).unwrap_or_default()
}
