// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The one place of the driver that talks to C: everything outside is safe code over these types.
#![allow(unsafe_code)]

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
    use kernel::ffi;
    use pin_init::MaybeZeroable;

    type __kernel_size_t = usize;
    type __kernel_ssize_t = isize;
    type __kernel_ptrdiff_t = isize;

    include!("generated.rs");
}

mod core_device;
mod debugfs;
mod device;
mod driver;
mod eventfd;
mod events;
mod interrupt;
mod ioctl;
mod watch;

pub(crate) use core_device::{Core, Restore};
pub(crate) use driver::Module;
pub(crate) use eventfd::Trigger;
pub(crate) use interrupt::Interrupt;
pub(crate) use watch::{Retired, Watch};
