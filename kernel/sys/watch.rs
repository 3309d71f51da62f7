// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An eventfd of user space that masks or unmasks a vector whenever it is signalled.
//!
//! The signal arrives with the eventfd's own lock held and interrupts off, where a device cannot be
//! touched; the work behind it takes the device's lock like any request. Taking a watch down waits
//! for that work and must therefore happen without the lock: watches are retired first.

use super::bindings;
use super::device::Device;
use super::Core;
use core::cell::UnsafeCell;
use core::ptr::addr_of;
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::ffi::{c_int, c_void};
use kernel::prelude::*;
use vfio_irq_engine::{Errno, Gate};

struct Armed {
    /// Null once the eventfd was closed for good.
    virqfd: UnsafeCell<*mut bindings::virqfd>,
    number: u32,
    gate: Gate,
    /// In a list of retired watches: the one retired before.
    next: Option<Watch>,
}

/// # Invariants
///
/// The address of what is in the box is known to the virqfd until it is disabled in `drop`.
pub(crate) struct Watch(KBox<Armed>);

// SAFETY: `virqfd` is reached by C under a lock of its own, and by the owner in `drop`.
unsafe impl Send for Watch {}
// SAFETY: As above; shared access reads a pointer for being null.
unsafe impl Sync for Watch {}

impl Watch {
    /// Arms the eventfd behind a descriptor: `EBADF`, `EINVAL` for a file that is no eventfd.
    pub(crate) fn arm(core: &Core, number: u32, gate: Gate, fd: i32) -> Result<Self, Errno> {
        let armed =
            Armed { virqfd: UnsafeCell::new(core::ptr::null_mut()), number, gate, next: None };
        let armed = KBox::new(armed, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
        let data: *const Armed = &*armed;
        // SAFETY: The core's device is the first field of a `Device`, as `fire` expects; `data`
        // and the pointer in it stay valid until the virqfd is disabled in `drop`.
        let ret = unsafe {
            bindings::vfio_virqfd_enable(
                core.as_ptr().cast(),
                Some(wake),
                Some(fire),
                data.cast_mut().cast(),
                armed.virqfd.get(),
                fd,
            )
        };
        if ret != 0 {
            return Err(Errno::from_raw(ret));
        }
        // INVARIANT: Enabled just now, with the address of a heap allocation.
        Ok(Self(armed))
    }

    /// Whether the eventfd is still there.
    pub(crate) fn is_armed(&self) -> bool {
        // SAFETY: A pointer that C clears; only whether it is null matters.
        unsafe { !self.0.virqfd.get().read_volatile().is_null() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: By the invariant. When this returns neither `wake` nor `fire` runs any more.
        unsafe { bindings::vfio_virqfd_disable(self.0.virqfd.get()) };
    }
}

/// Watches that are out of use. To be dropped with no lock held that `fire` takes.
#[derive(Default)]
#[must_use = "to be dropped without the device's lock"]
pub(crate) struct Retired(Option<Watch>);

impl Retired {
    pub(crate) fn push(&mut self, mut watch: Watch) {
        watch.0.next = self.0.take();
        self.0 = Some(watch);
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        // One after the other: a list that drops itself would go as deep as it is long.
        while let Some(mut watch) = self.0.take() {
            self.0 = watch.0.next.take();
        }
    }
}

/// The eventfd was signalled: have `fire` run.
unsafe extern "C" fn wake(_device: *mut c_void, _armed: *mut c_void) -> c_int {
    1
}

unsafe extern "C" fn fire(device: *mut c_void, armed: *mut c_void) {
    // SAFETY: Armed with these two; both are valid until the virqfd is disabled, which waits.
    let (device, armed) = unsafe { (&*device.cast::<Device>(), armed.cast::<Armed>()) };
    // SAFETY: As above; the two fields never change.
    let (number, gate) =
        unsafe { (addr_of!((*armed).number).read(), addr_of!((*armed).gate).read()) };
    device.watch_fired(number, gate, |watch| core::ptr::eq(&*watch.0, armed));
}
