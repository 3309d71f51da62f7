// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The triggers of ERR and REQ, where the core looks for them.
//!
//! The core signals them under RCU and puts them when the device is closed, so they are kept in its
//! own structure, allocated as it allocates it.

use super::bindings::{self, vfio_pci_eventfd};
use super::{Core, Trigger};
use core::ptr::{addr_of_mut, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::prelude::*;
use vfio_irq_engine::{Errno, Event};

impl Core {
    fn event_place(&self, event: Event) -> &AtomicPtr<vfio_pci_eventfd> {
        let core = self.as_ptr();
        // SAFETY: The core is live as long as `self`; the field is an aligned pointer that C reads
        // and writes as a whole, as RCU has it.
        unsafe {
            let place = match event {
                Event::Err => addr_of_mut!((*core).err_trigger),
                Event::Req => addr_of_mut!((*core).req_trigger),
            };
            AtomicPtr::from_ptr(place)
        }
    }

    /// Whether the event has a trigger. It changes under the device's lock, which the caller holds,
    /// and when the device is closed.
    pub(crate) fn event_is_set(&self, event: Event) -> bool {
        !self.event_place(event).load(Ordering::Acquire).is_null()
    }

    /// Replaces or clears the trigger of an event.
    pub(crate) fn event_set(&self, event: Event, trigger: Option<Trigger>) -> Result<(), Errno> {
        let new = match trigger {
            None => core::ptr::null_mut(),
            Some(trigger) => {
                // SAFETY: All zeroes are such a structure with nothing in it.
                let empty: vfio_pci_eventfd = unsafe { core::mem::zeroed() };
                let mut new = KBox::new(empty, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
                new.ctx = trigger.into_raw();
                KBox::into_raw(new)
            }
        };
        let core = self.as_ptr();
        // SAFETY: The core is live; its own code replaces the triggers under this lock.
        unsafe { bindings::mutex_lock(addr_of_mut!((*core).igate)) };
        let old = self.event_place(event).swap(new, Ordering::AcqRel);
        // SAFETY: Taken above.
        unsafe { bindings::mutex_unlock(addr_of_mut!((*core).igate)) };
        if !old.is_null() {
            // SAFETY: It was published and is no longer; readers under RCU may still look at it
            // until `release` runs. Nobody else got it from the swap.
            unsafe { bindings::call_rcu(addr_of_mut!((*old).rcu), Some(release)) };
        }
        Ok(())
    }

    /// Signals the trigger of an event, if it has one.
    pub(crate) fn event_signal(&self, event: Event) {
        let _reader = kernel::sync::rcu::read_lock();
        let set = self.event_place(event).load(Ordering::Acquire);
        if let Some(set) = NonNull::new(set) {
            // SAFETY: Published, and not released before this reader is done.
            unsafe { bindings::eventfd_signal_mask((*set.as_ptr()).ctx, 0) };
        }
    }
}

/// No reader is left.
unsafe extern "C" fn release(head: *mut bindings::callback_head) {
    let offset = core::mem::offset_of!(vfio_pci_eventfd, rcu);
    // SAFETY: Queued by `event_set` with the field of a structure from `KBox::into_raw`, or by
    // nobody; the trigger in it came from `Trigger::into_raw`.
    unsafe {
        let set = KBox::from_raw(head.byte_sub(offset).cast::<vfio_pci_eventfd>());
        if let Some(ctx) = NonNull::new(set.ctx) {
            drop(Trigger::from_raw(ctx));
        }
    }
}
