// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The one place that talks to C. Everything outside is safe code over these types.
#![allow(unsafe_code)]

/// C, as the kernel's own crate binds it and, where it does not, as `bindings.h` says.
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
mod bindings {
    pub(super) use kernel::bindings::*;
    use kernel::ffi;
    use pin_init::MaybeZeroable;

    include!("generated.rs");
}

mod device;
mod eventfd;
mod exports;
mod intx;
mod msi;
mod msix_table;

pub(crate) use device::{Core, Decoding};
pub(crate) use eventfd::Trigger;
pub(crate) use intx::Intx;
pub(crate) use msi::Interrupt;
pub(crate) use msix_table::MsixTable;
