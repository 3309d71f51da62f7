//! The lab: real kernels in QEMU, on any machine, without privilege and without KVM.

pub mod archive;
pub mod cache;
pub mod kernel;
pub mod process;
pub mod root;
pub mod sandbox;
