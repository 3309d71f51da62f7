// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! One value for each device, in the core's XArray `ctx`.

use super::bindings;
use super::CoreDevice;
use core::marker::PhantomData;
use core::ptr::{addr_of_mut, NonNull};
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::prelude::*;
use vfio_irq_engine::Errno;

/// A device's XArray `ctx`, which holds a `T` at index 0 or is empty. The C file that used the
/// array is not part of this build.
///
/// # Invariants
///
/// - The holder of this value has `igate`, or the lock of the device set while the core closes the
///   device. No other `Ctx` of the device exists meanwhile, so references to the `T` come from
///   here.
/// - Every `Ctx` of the device has the same `T`.
pub(crate) struct Ctx<T> {
    vdev: CoreDevice,
    value: PhantomData<T>,
}

impl<T> Ctx<T> {
    /// Returns the array of a device.
    ///
    /// # Safety
    ///
    /// The invariants of this type hold for `vdev`.
    #[inline]
    pub(crate) unsafe fn new(vdev: CoreDevice) -> Self {
        // INVARIANT: By the function's requirement.
        Self { vdev, value: PhantomData }
    }

    /// Returns the device.
    pub(crate) fn vdev(&self) -> CoreDevice {
        self.vdev
    }

    /// Returns the value, or `None` if the array is empty.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // SAFETY: By the invariants the pointer is a `T` that only `remove` drops.
        self.head().map(|value| unsafe { value.as_ref() })
    }

    /// Returns the value. If the array is empty, stores the value that `new` returns. Returns
    /// ENOMEM if there is no memory for it.
    #[inline]
    pub(crate) fn get_or_insert_with(
        &mut self,
        new: impl FnOnce(CoreDevice) -> T,
    ) -> Result<&mut T, Errno> {
        let mut value = match self.head() {
            Some(value) => value,
            None => self.store(new(self.vdev))?,
        };
        // SAFETY: By the invariants the pointer is a `T` that only `remove` drops, and `self` is
        // the only way to it.
        Ok(unsafe { value.as_mut() })
    }

    /// Drops the value, if there is one.
    #[cold]
    pub(crate) fn remove(&mut self) {
        let Some(value) = self.head() else { return };
        // SAFETY: `store` stored the pointer, which came from a `KBox`. No reference to the value
        // is left, since `self` is borrowed exclusively.
        unsafe {
            bindings::xa_erase(addr_of_mut!((*self.vdev.as_ptr()).ctx), 0);
            drop(KBox::from_raw(value.as_ptr()));
        }
    }

    /// Returns the pointer in the array. An XArray whose only entry has index 0 keeps the entry in
    /// its head (xarray.h). `xa_load` takes seventy instructions to find the same.
    #[inline]
    fn head(&self) -> Option<NonNull<T>> {
        // SAFETY: By the invariant of `CoreDevice` the array is initialised. By the invariants of
        // this type it does not change meanwhile.
        NonNull::new(unsafe { (*self.vdev.as_ptr()).ctx.xa_head }.cast())
    }

    /// Stores a value in the array, which must be empty. Returns its place.
    #[cold]
    fn store(&mut self, value: T) -> Result<NonNull<T>, Errno> {
        // XArray uses the two low bits of an entry itself, and a zero-sized value has no
        // allocation.
        const { assert!(size_of::<T>() != 0 && align_of::<T>() >= 4) };
        let value = KBox::new(value, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
        let value = KBox::into_raw(value);
        // SAFETY: The array is initialised, and the pointer is aligned as XArray requires.
        let ret = unsafe {
            let ctx = addr_of_mut!((*self.vdev.as_ptr()).ctx);
            bindings::xa_store(ctx, 0, value.cast(), bindings::GFP_KERNEL_ACCOUNT)
        };
        if ret.is_null() {
            return NonNull::new(value).ok_or(Errno::ENOMEM);
        }
        // The array was empty, so `ret` is an error and not an older entry.
        // SAFETY: From `into_raw`, and the array did not take the pointer.
        drop(unsafe { KBox::from_raw(value) });
        Err(Errno::ENOMEM)
    }
}
