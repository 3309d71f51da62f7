//! The lab: real kernels in QEMU, on any machine, without privilege and without KVM.

pub mod archive;
pub mod cache;
pub mod cdev;
pub mod cpio;
pub mod debian;
mod debug_kernel;
pub mod device;
pub mod guest;
pub mod image;
pub mod kernel;
pub mod modules;
pub mod process;
pub mod program;
pub mod root;
pub mod run_dir;
pub mod sandbox;
pub mod shell;
pub mod start;
pub mod variant;
