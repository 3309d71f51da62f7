// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Names and results of handlers, for MSI, MSI-X and INTx.

use super::bindings::irqreturn_t;
use core::ptr::from_ref;
use kernel::ffi::c_char;
use kernel::irq::IrqReturn;

/// The name of a handler, which C reads while the handler is installed.
///
/// # Invariants
///
/// The last byte is zero.
pub(crate) struct IrqName([u8; Self::LEN]);

impl IrqName {
    /// Room for `vfio-msix[2047](0000:00:00.0)` and for PCI domains of eight digits.
    pub(crate) const LEN: usize = 48;

    /// Returns the name up to the first zero. The last byte is cut off.
    pub(crate) fn new(mut bytes: [u8; Self::LEN]) -> Self {
        bytes[Self::LEN - 1] = 0;
        // INVARIANT: Set above.
        Self(bytes)
    }

    pub(super) fn as_ptr(&self) -> *const c_char {
        from_ref(&self.0).cast()
    }
}

/// Returns a handler's result as the C type that kCFI checks. That type is a `newtype` from Linux
/// 7.3 on, and a plain integer before.
pub(super) const fn irq_return(result: IrqReturn) -> irqreturn_t {
    // SAFETY: Both are an `unsigned int`, and the kernel crate takes its values from C's.
    unsafe { core::mem::transmute::<u32, irqreturn_t>(result as u32) }
}
