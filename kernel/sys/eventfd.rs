// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A reference to an eventfd of user space.

use super::bindings;
use core::ptr::NonNull;
use vfio_irq_engine::Errno;

/// A counted reference to an eventfd, given up when dropped.
///
/// # Invariants
///
/// The pointer came from `eventfd_ctx_fdget` and its reference is this value's.
pub(crate) struct Trigger(NonNull<bindings::eventfd_ctx>);

// SAFETY: An eventfd context may be signalled and put from any thread.
unsafe impl Send for Trigger {}
// SAFETY: As above; nothing is reached through a shared `Trigger` but signalling.
unsafe impl Sync for Trigger {}

impl Trigger {
    /// The eventfd behind a descriptor of the calling process: `EBADF`, or `EINVAL` for a file
    /// that is no eventfd.
    pub(crate) fn from_fd(fd: i32) -> Result<Self, Errno> {
        // SAFETY: Any number may be asked for.
        let ctx = unsafe { bindings::eventfd_ctx_fdget(fd) };
        match NonNull::new(check(ctx)?) {
            // INVARIANT: `check` passed it, so it is a context with a reference taken.
            Some(ctx) => Ok(Self(ctx)),
            None => Err(Errno::EBADF),
        }
    }

    /// For handing to C while this value lives.
    pub(super) fn as_ptr(&self) -> *mut bindings::eventfd_ctx {
        self.0.as_ptr()
    }

    /// Hands the reference over; whoever takes it puts it.
    pub(super) fn into_raw(self) -> *mut bindings::eventfd_ctx {
        let ctx = self.as_ptr();
        core::mem::forget(self);
        ctx
    }

    /// Takes a reference over.
    ///
    /// # Safety
    ///
    /// `ctx` came from [`Trigger::into_raw`] and is given up by the caller.
    pub(super) unsafe fn from_raw(ctx: NonNull<bindings::eventfd_ctx>) -> Self {
        Self(ctx)
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        // SAFETY: By the invariant there is a reference to put, and it is put once.
        unsafe { bindings::eventfd_ctx_put(self.as_ptr()) }
    }
}

/// A pointer as C returns it: the last page of addresses are errors.
fn check<T>(pointer: *mut T) -> Result<*mut T, Errno> {
    let address = pointer as isize;
    if (-4095..0).contains(&address) {
        return Err(Errno::from_raw(address as i32));
    }
    Ok(pointer)
}
