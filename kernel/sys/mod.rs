// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Types over the kernel's C. This module knows nothing of the crate above it. The code above is
//! safe, but for `exports.rs`, which C calls.
#![allow(unsafe_code)]

/// C: the bindings of the kernel crate, and those that bindgen makes of `bindings.h`.
#[allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unknown_lints,
    unnecessary_transmutes,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]
pub(crate) mod bindings {
    pub(crate) use kernel::bindings::*;
    use kernel::ffi;
    use pin_init::MaybeZeroable;

    include!("generated.rs");
}

mod ctx;
mod device;
mod eventfd;
mod intx;
mod irq;
mod memory_lock;
mod msi;
mod msi_message;
mod msix_table;

pub(crate) use ctx::Ctx;
pub(crate) use device::CoreDevice;
pub(crate) use eventfd::Trigger;
pub(crate) use intx::Intx;
pub(crate) use irq::IrqName;
pub(crate) use memory_lock::SavedCommand;
pub(crate) use msi::Interrupt;
pub(crate) use msix_table::MsixTable;
