// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The core's `memory_lock`, and memory decoding.
//!
//! # Locks
//!
//! A step that writes registers of the device needs memory decoding, and no reset or change of
//! power state meanwhile. The core's `memory_lock` excludes both. It is held in one of two ways:
//!
//! - **For writing**, with decoding turned on: from [`CoreDevice::memory_lock_and_enable`] to
//!   [`CoreDevice::memory_unlock_and_restore`]. Every step that changes the MSI-X table as a whole,
//!   or COMMAND, needs this.
//! - **For reading**, while the device decodes memory anyway: as long as a [`MemoryReadGuard`]
//!   lives. This is enough to change a mask bit, and leaves page faults on the device's BARs alone.
//!
//! `memory_lock` comes after `igate` and before the locks of Linux's interrupt code.

use super::bindings;
use super::CoreDevice;
use core::ptr::addr_of_mut;

/// COMMAND as [`CoreDevice::memory_lock_and_enable`] found it.
///
/// # Invariants
///
/// While this value exists, `memory_lock` is held for writing.
#[must_use]
pub(crate) struct SavedCommand(u16);

/// Holds `memory_lock` for reading. The device decodes memory while this lives.
pub(crate) struct MemoryReadGuard<'v>(&'v CoreDevice);

impl CoreDevice {
    /// Takes `memory_lock` for writing and turns memory decoding on. Returns COMMAND as it was.
    pub(crate) fn memory_lock_and_enable(self) -> SavedCommand {
        // SAFETY: By the invariant of `CoreDevice` the lock is initialised.
        // INVARIANT: The call takes the lock.
        SavedCommand(unsafe { bindings::vfio_pci_memory_lock_and_enable(self.as_ptr()) })
    }

    /// Writes COMMAND back, DisINTx included, and releases `memory_lock`.
    pub(crate) fn memory_unlock_and_restore(self, command: SavedCommand) {
        // SAFETY: By the invariant of `SavedCommand` the lock is held; the value is consumed here.
        unsafe { bindings::vfio_pci_memory_unlock_and_restore(self.as_ptr(), command.0) };
    }

    /// Takes `memory_lock` for reading. Returns `None` if memory decoding is off, as far as the
    /// core knows, or if the device is in a sleep state.
    #[inline]
    pub(crate) fn down_read_if_memory_enabled(&self) -> Option<MemoryReadGuard<'_>> {
        let guard = MemoryReadGuard(self);
        // SAFETY: By the invariant of `CoreDevice` the lock is initialised; the guard releases it.
        unsafe { bindings::down_read(memory_lock(*self)) };
        // SAFETY: By the invariant of `CoreDevice`; the device is open, and the lock is held.
        unsafe { bindings::__vfio_pci_memory_enabled(self.as_ptr()) }.then_some(guard)
    }
}

impl Drop for MemoryReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `down_read_if_memory_enabled` took the lock.
        unsafe { bindings::up_read(memory_lock(*self.0)) };
    }
}

fn memory_lock(vdev: CoreDevice) -> *mut bindings::rw_semaphore {
    // SAFETY: By the invariant of `CoreDevice`; only the address is taken.
    unsafe { addr_of_mut!((*vdev.as_ptr()).memory_lock) }
}
