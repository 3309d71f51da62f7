// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! One interrupt with a handler that signals an eventfd.

use super::bindings;
use super::{Core, Trigger};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::ffi::c_int;
use kernel::prelude::*;
use vfio_irq_engine::{Errno, Gate, Kind};

/// Room for `vfio-msix[2047](0000:00:00.0)` and for domains of eight digits.
const NAME: usize = 48;

/// What the handler reaches.
#[repr(C)]
struct Line {
    /// The eventfd to signal: always one that the [`Interrupt`] holds a reference to, or held until
    /// no handler was running any more.
    target: AtomicPtr<bindings::eventfd_ctx>,
    /// Interrupts signalled. Handlers of one interrupt never overlap, so one writes at a time.
    signals: AtomicU64,
    producer: UnsafeCell<bindings::irq_bypass_producer>,
    name: [u8; NAME],
}

/// A requested interrupt. It is requested disabled; [`Interrupt::open`] lets it through.
///
/// # Invariants
///
/// While `installed`, the handler is there with the address of `line`, which stays where it is until the handler
/// is gone. `line.target` is `trigger`, except within [`Interrupt::retarget`].
pub(crate) struct Interrupt {
    line: KBox<Line>,
    trigger: Trigger,
    irq: u32,
    /// Whether closing it masks the device at once, and not when the next interrupt arrives.
    prompt: bool,
    installed: bool,
}

// SAFETY: The line is reached by the handler through atomics and by the owner alone otherwise.
unsafe impl Send for Interrupt {}
// SAFETY: As above; `producer` is reached through `&mut` only.
unsafe impl Sync for Interrupt {}

impl Interrupt {
    /// Installs the handler, with interrupts still off.
    pub(crate) fn request(
        core: &Core,
        kind: Kind,
        number: u32,
        irq: u32,
        trigger: Trigger,
    ) -> Result<Self, Errno> {
        let line = Line {
            target: AtomicPtr::new(trigger.as_ptr()),
            signals: AtomicU64::new(0),
            // SAFETY: All zeroes are a producer that is not registered.
            producer: UnsafeCell::new(unsafe { core::mem::zeroed() }),
            name: name(core, kind, number),
        };
        let line = KBox::new(line, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
        let data: *const Line = &*line;
        // SAFETY: `data` and the name in it stay valid until `free_irq` in `drop`; the handler
        // takes a `Line`.
        let ret = unsafe {
            bindings::request_threaded_irq(
                irq,
                Some(handler),
                None,
                (bindings::IRQF_NO_AUTOEN | bindings::IRQF_COND_ONESHOT) as _,
                line.name.as_ptr().cast(),
                data.cast_mut().cast(),
            )
        };
        if ret != 0 {
            return Err(Errno::from_raw(ret));
        }
        // INVARIANT: Installed just now, with the address of a heap allocation.
        Ok(Self { line, trigger, irq, prompt: false, installed: true })
    }

    /// Its number in Linux.
    pub(crate) fn irq(&self) -> u32 {
        self.irq
    }

    /// How often the handler ran.
    pub(crate) fn signals(&self) -> u64 {
        self.line.signals.load(Ordering::Relaxed)
    }

    pub(crate) fn targets(&self, trigger: &Trigger) -> bool {
        self.trigger.as_ptr() == trigger.as_ptr()
    }

    /// Signals the eventfd as the handler does, but is not counted as an interrupt.
    pub(crate) fn signal(&self) {
        // SAFETY: `trigger` holds a reference.
        unsafe { bindings::eventfd_signal_mask(self.trigger.as_ptr(), 0) };
    }

    /// Lets interrupts through. Once for each [`Interrupt::close`], and once at first.
    #[inline]
    pub(crate) fn open(&mut self) {
        // SAFETY: By the invariant the interrupt is requested, and it is disabled.
        unsafe { bindings::enable_irq(self.irq) };
    }

    /// Masks the vector in the device and waits for a handler in flight.
    #[inline]
    pub(crate) fn close(&mut self) {
        if !self.prompt {
            // SAFETY: The interrupt is requested; the flag goes away with its handler.
            unsafe { bindings::irq_modify_status(self.irq, 0, bindings::IRQ_DISABLE_UNLAZY as _) };
            self.prompt = true;
        }
        // SAFETY: The interrupt is requested, and may be waited for: no lock that its handler
        // takes is held.
        unsafe { bindings::disable_irq(self.irq) };
    }

    /// Writes what a reset behind the kernel's back has cleared. A cleared vector is dead until
    /// then; one that was taken for cleared is only masked for a moment, and the device holds what
    /// arrives.
    pub(crate) fn repair(&mut self, core: &Core, number: u32, gate: Gate) {
        if gate == Gate::Open {
            self.close();
        }
        if core.table_differs(number, self.irq) {
            core.rewrite_message(self.irq);
        }
        if gate == Gate::Open {
            self.open();
        }
    }

    /// Signals another eventfd from now on. The vector is open all the while: an interrupt is
    /// signalled on the old eventfd or on the new one.
    pub(crate) fn retarget(&mut self, trigger: Trigger) {
        self.line.target.store(trigger.as_ptr(), Ordering::Release);
        // SAFETY: The interrupt is requested, and may be waited for. A handler that has read the
        // old target is done when this returns, and only then is its reference put.
        unsafe { bindings::synchronize_irq(self.irq) };
        // INVARIANT: The target was set above.
        self.trigger = trigger;
    }

    /// Offers the interrupt to whoever consumes the eventfd in the kernel (a KVM irqfd), which may
    /// then deliver it without the handler. Not being taken is nothing bad: two vectors on one
    /// eventfd cannot both be.
    pub(crate) fn tie(&mut self, core: &Core) {
        // SAFETY: The producer is not registered, and stays where it is until `untie`.
        let ret = unsafe {
            bindings::irq_bypass_register_producer(
                self.line.producer.get(),
                self.trigger.as_ptr(),
                self.irq as c_int,
            )
        };
        if ret != 0 {
            pr_info!("{}: no irq bypass for irq {} ({})\n", Name(core), self.irq, ret);
        }
    }

    /// Takes the offer back; interrupts go through the handler.
    pub(crate) fn untie(&mut self) {
        // SAFETY: Registered by `tie`, or never: the call looks.
        unsafe { bindings::irq_bypass_unregister_producer(self.line.producer.get()) };
    }

    /// Takes the handler away; how often it ran.
    pub(crate) fn free(mut self) -> u64 {
        self.uninstall();
        self.signals()
    }

    fn uninstall(&mut self) {
        if !core::mem::take(&mut self.installed) {
            return;
        }
        self.untie();
        let data: *const Line = &*self.line;
        // SAFETY: By the invariant the handler is installed with this address. When this returns
        // no handler runs, so that the line and then the trigger may go.
        unsafe { bindings::free_irq(self.irq, data.cast_mut().cast::<c_void>()) };
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.uninstall();
    }
}

/// One load, one count, one signal.
///
/// # Safety
///
/// `data` is a `Line` that outlives the handler.
unsafe extern "C" fn handler(_irq: c_int, data: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: Requested with a `Line` that is valid until the handler is freed.
    let line = unsafe { &*data.cast::<Line>() };
    let signals = line.signals.load(Ordering::Relaxed);
    line.signals.store(signals.wrapping_add(1), Ordering::Relaxed);
    // SAFETY: The reference to a target is put only after handlers that may have read it are done.
    unsafe { bindings::eventfd_signal_mask(line.target.load(Ordering::Acquire), 0) };
    bindings::irqreturn_IRQ_HANDLED
}

/// As Linux names them; others look for these names (`CONTRACT.md`, V-11). By hand: formatting
/// takes 1,250 instructions more, at every attach.
fn name(core: &Core, kind: Kind, number: u32) -> [u8; NAME] {
    let kind: &[u8] = match kind {
        Kind::Msi => b"vfio-msi[",
        Kind::Msix => b"vfio-msix[",
    };
    let mut digits = [0; DIGITS];
    let mut name = [0; NAME];
    let mut at = 0;
    for part in [kind, decimal(number, &mut digits), b"](", core.name().to_bytes(), b")"] {
        let end = at + part.len();
        // The last byte stays zero. A part that does not fit is left out.
        if let Some(room) = name.get_mut(at..end).filter(|_| end < NAME) {
            room.copy_from_slice(part);
            at = end;
        }
    }
    name
}

/// Digits of the largest number.
const DIGITS: usize = 10;

/// A number as digits, in the end of `room`.
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

/// Prints the address of a function.
struct Name<'c>(&'c Core);

impl kernel::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        kernel::fmt::Display::fmt(self.0.name(), f)
    }
}
