// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! References to eventfds of user space, and the core's own two: ERR and REQ.

use super::bindings::{self, vfio_pci_eventfd};
use super::Core;
use core::ptr::{addr_of_mut, null_mut, NonNull};
use vfio_irq_engine::{Errno, Event};

/// A counted reference to an eventfd, given up when dropped.
///
/// # Invariants
///
/// The pointer came from `eventfd_ctx_fdget` and its reference is this value's.
pub(crate) struct Trigger(NonNull<bindings::eventfd_ctx>);

// SAFETY: C signals and puts eventfds from any thread.
unsafe impl Send for Trigger {}
// SAFETY: As above; a shared `Trigger` is signalled, no more.
unsafe impl Sync for Trigger {}

impl Trigger {
    /// Returns the eventfd behind a descriptor of the calling process, `EBADF`, or `EINVAL` for a
    /// file that is no eventfd.
    pub(crate) fn from_fd(fd: i32) -> Result<Self, Errno> {
        // SAFETY: Any number may be asked for.
        let ctx = unsafe { bindings::eventfd_ctx_fdget(fd) };
        match kernel::error::from_err_ptr(ctx) {
            // INVARIANT: `eventfd_ctx_fdget` succeeded and took a reference.
            Ok(ctx) => NonNull::new(ctx).map(Self).ok_or(Errno::EBADF),
            Err(error) => Err(Errno::from_raw(error.to_errno())),
        }
    }

    /// Returns the pointer for C to use while this value lives.
    pub(super) fn as_ptr(&self) -> *mut bindings::eventfd_ctx {
        self.0.as_ptr()
    }

    /// Hands the reference over to C.
    fn into_raw(self) -> *mut bindings::eventfd_ctx {
        let ctx = self.as_ptr();
        core::mem::forget(self);
        ctx
    }

    pub(super) fn signal(&self) {
        // SAFETY: By the invariant there is a reference.
        unsafe { bindings::eventfd_signal_mask(self.as_ptr(), 0) };
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        // SAFETY: By the invariant there is a reference to put, and it is put once.
        unsafe { bindings::eventfd_ctx_put(self.as_ptr()) }
    }
}

/// ERR and REQ. The core keeps them in its own structure, signals them under RCU and clears them
/// when the device is closed; it replaces them under `igate`, which the caller of each function
/// below holds.
impl Core {
    fn event_place(&self, event: Event) -> *mut *mut vfio_pci_eventfd {
        let core = self.as_ptr();
        // SAFETY: By the invariant of `Core`; only the address is taken.
        unsafe {
            match event {
                Event::Err => addr_of_mut!((*core).err_trigger),
                Event::Req => addr_of_mut!((*core).req_trigger),
            }
        }
    }

    /// Returns true if the event has a trigger.
    pub(crate) fn event_is_set(&self, event: Event) -> bool {
        // SAFETY: The place is valid, and does not change while `igate` is held.
        unsafe { !(*self.event_place(event)).is_null() }
    }

    /// Replaces or clears the trigger of an event. Returns `ENOMEM` if there is no memory to keep it.
    pub(crate) fn event_set(&self, event: Event, trigger: Option<Trigger>) -> Result<(), Errno> {
        let ctx = trigger.as_ref().map_or(null_mut(), Trigger::as_ptr);
        // SAFETY: The place is one of the core's, and `igate` is held. On success the reference is
        // the core's.
        let ret = unsafe {
            bindings::vfio_pci_eventfd_replace_locked(self.as_ptr(), self.event_place(event), ctx)
        };
        if ret != 0 {
            return Err(Errno::from_raw(ret));
        }
        if let Some(trigger) = trigger {
            let _ = trigger.into_raw();
        }
        Ok(())
    }

    /// Signals the trigger of an event, if it has one.
    pub(crate) fn event_signal(&self, event: Event) {
        // SAFETY: The place is valid. What it points to stays while `igate` is held, and holds a
        // reference to its eventfd.
        unsafe {
            if let Some(set) = NonNull::new(*self.event_place(event)) {
                bindings::eventfd_signal_mask((*set.as_ptr()).ctx, 0);
            }
        }
    }
}
