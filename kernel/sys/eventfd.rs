// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! References to eventfds of user space, and the core's own two: ERR and REQ.

use super::bindings::{self, vfio_pci_eventfd};
use super::CoreDevice;
use core::ptr::{addr_of_mut, null_mut, NonNull};
use vfio_irq_engine::{Errno, Event};

/// A counted reference to an eventfd. Dropping it puts the reference.
///
/// # Invariants
///
/// The pointer came from `eventfd_ctx_fdget`, and this value owns that reference.
pub(crate) struct Trigger(NonNull<bindings::eventfd_ctx>);

// SAFETY: C signals and puts eventfds from any thread.
unsafe impl Send for Trigger {}
// SAFETY: As above; a shared `Trigger` can only be signalled.
unsafe impl Sync for Trigger {}

impl Trigger {
    /// Returns the eventfd of a descriptor of the calling process. Returns EBADF if the descriptor
    /// is not open, EINVAL if it is not an eventfd.
    pub(crate) fn from_fd(fd: i32) -> Result<Self, Errno> {
        // SAFETY: The call accepts any number.
        let ctx = unsafe { bindings::eventfd_ctx_fdget(fd) };
        match kernel::error::from_err_ptr(ctx) {
            // INVARIANT: `eventfd_ctx_fdget` succeeded and took a reference.
            Ok(ctx) => NonNull::new(ctx).map(Self).ok_or(Errno::EBADF),
            Err(error) => Err(Errno::from_raw(error.to_errno())),
        }
    }

    /// Returns the pointer, for C to use while this value lives.
    pub(super) fn as_ptr(&self) -> *mut bindings::eventfd_ctx {
        self.0.as_ptr()
    }

    /// Adds one to the eventfd's counter.
    pub(super) fn signal(&self) {
        // SAFETY: By the invariant there is a reference.
        unsafe { bindings::eventfd_signal_mask(self.as_ptr(), 0) };
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        // SAFETY: By the invariant this value owns a reference, which is put once.
        unsafe { bindings::eventfd_ctx_put(self.as_ptr()) }
    }
}

/// ERR and REQ.
///
/// # Locks
///
/// The core has both triggers in its own structure. It signals them under RCU, replaces them under
/// `igate`, and clears them when it closes the device. The caller of each function below holds
/// `igate`, by the invariant of [`CoreDevice`].
impl CoreDevice {
    /// Returns the address of the event's pointer, which C calls `peventfd`.
    fn peventfd(&self, event: Event) -> *mut *mut vfio_pci_eventfd {
        let vdev = self.as_ptr();
        // SAFETY: By the invariant of `CoreDevice`; only the address is taken.
        unsafe {
            match event {
                Event::Err => addr_of_mut!((*vdev).err_trigger),
                Event::Req => addr_of_mut!((*vdev).req_trigger),
            }
        }
    }

    /// Returns true if the event has a trigger.
    pub(crate) fn event_is_set(&self, event: Event) -> bool {
        // SAFETY: The address is valid, and the pointer does not change while `igate` is held.
        unsafe { !(*self.peventfd(event)).is_null() }
    }

    /// Replaces or clears the trigger of an event. Returns ENOMEM if there is no memory for it.
    pub(crate) fn event_set(&self, event: Event, trigger: Option<Trigger>) -> Result<(), Errno> {
        let ctx = trigger.as_ref().map_or(null_mut(), Trigger::as_ptr);
        // SAFETY: The address is the core's, and `igate` is held. If the call succeeds, the core
        // owns the reference.
        let ret = unsafe {
            bindings::vfio_pci_eventfd_replace_locked(self.as_ptr(), self.peventfd(event), ctx)
        };
        if ret != 0 {
            return Err(Errno::from_raw(ret));
        }
        // The core puts the reference, so it must not be put here.
        core::mem::forget(trigger);
        Ok(())
    }

    /// Signals the trigger of an event, if it has one.
    pub(crate) fn event_signal(&self, event: Event) {
        // SAFETY: The address is valid. While `igate` is held, the structure behind the pointer
        // stays, and has a reference to its eventfd.
        unsafe {
            if let Some(eventfd) = NonNull::new(*self.peventfd(event)) {
                bindings::eventfd_signal_mask((*eventfd.as_ptr()).ctx, 0);
            }
        }
    }
}
