// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `/sys/kernel/debug/vfio-pci-rs/BDF`.
//!
//! The `kernel` crate has files of debugfs, but an open one does not keep the module loaded there,
//! and reading it after the module is gone reads what is no longer code. These do.

use super::device::Device;
use core::mem::MaybeUninit;
use core::ptr::{null, null_mut};
use kernel::bindings as linux;
use kernel::ffi::{c_int, c_void};
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::str::CStr;

/// How often a reader tries to get the device's lock, a tick or two apart. User space can keep the
/// lock for as long as it keeps a page from being read, and readers are not to hang on that.
const TRIES: u32 = 250;

/// The driver's directory, and what its files do.
pub(super) struct Directory {
    dentry: *mut linux::dentry,
    operations: linux::file_operations,
}

impl Directory {
    pub(super) fn new(module: &'static ThisModule) -> Self {
        let operations = linux::file_operations {
            owner: module.as_ptr(),
            open: Some(open),
            read: Some(linux::seq_read),
            llseek: Some(linux::seq_lseek),
            release: Some(linux::single_release),
            // SAFETY: All zeroes are operations that are not there.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        };
        // SAFETY: The name is a string; without debugfs the answer is an error, which is fine as a
        // parent.
        #[cfg(CONFIG_DEBUG_FS)]
        let dentry =
            unsafe { linux::debugfs_create_dir(c"vfio-pci-rs".as_ptr().cast(), null_mut()) };
        #[cfg(not(CONFIG_DEBUG_FS))]
        let dentry = null_mut();
        Self { dentry, operations }
    }

    /// A file that shows the device, until what is returned is dropped.
    ///
    /// # Safety
    ///
    /// The directory stays where it is, and the device is there, until the file is dropped and for
    /// as long as it is open.
    pub(super) unsafe fn file(&self, name: &CStr, device: &Device) -> File {
        // SAFETY: By the function's requirement; the operations take a `Device`.
        #[cfg(CONFIG_DEBUG_FS)]
        let dentry = unsafe {
            linux::debugfs_create_file_full(
                name.as_ptr().cast(),
                0o400,
                self.dentry,
                core::ptr::from_ref(device).cast_mut().cast(),
                null(),
                &self.operations,
            )
        };
        #[cfg(not(CONFIG_DEBUG_FS))]
        let dentry = null_mut();
        File(dentry)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: Created in `new`; an error is passed over.
        #[cfg(CONFIG_DEBUG_FS)]
        unsafe {
            linux::debugfs_remove(self.dentry)
        };
    }
}

/// A file in the directory. Dropping it waits for readers; whoever has it open reads no more.
pub(super) struct File(*mut linux::dentry);

// SAFETY: A dentry may be removed from any thread.
unsafe impl Send for File {}
// SAFETY: Nothing is done through a shared reference.
unsafe impl Sync for File {}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: Created in `Directory::file`; an error is passed over.
        #[cfg(CONFIG_DEBUG_FS)]
        unsafe {
            linux::debugfs_remove(self.0)
        };
    }
}

unsafe extern "C" fn open(inode: *mut linux::inode, file: *mut linux::file) -> c_int {
    // SAFETY: debugfs opens a file that `Directory::file` created, with the device in the inode.
    unsafe { linux::single_open(file, Some(show), (*inode).i_private) }
}

unsafe extern "C" fn show(seq: *mut linux::seq_file, _: *mut c_void) -> c_int {
    // SAFETY: Opened by `open` with a device, which waits for readers before it goes.
    let device = unsafe { &*(*seq).private.cast::<Device>() };
    // SAFETY: Valid for as long as this runs.
    let seq = unsafe { SeqFile::from_raw(seq) };
    for _ in 0..TRIES {
        if let Some(state) = device.try_lock() {
            seq.call_printf(fmt!("{}", &*state));
            return 0;
        }
        // SAFETY: A reader may sleep.
        if unsafe { linux::msleep_interruptible(1) } != 0 {
            return EINTR.to_errno();
        }
    }
    seq.call_printf(fmt!("busy: a request is holding the device\n"));
    0
}
