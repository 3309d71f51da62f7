//! The operations of rust-vmm's types that need unsafe code.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use vfio_ioctls::{VfioDevice, VfioError, VfioOps};
use vfio_irq_conformance::vfio::Dma;

/// Maps this memory for DMA.
pub fn map(ops: &dyn VfioOps, dma: &Dma) -> Result<(), VfioError> {
    let (address, len) = dma.memory.place();
    // SAFETY: a `Mapping` is accessed through raw pointers only. It outlives the DMA of the
    // device, since `Opened` drops the device first.
    unsafe { ops.vfio_dma_map(dma.iova, len, address) }
}

/// Returns the descriptor of rust-vmm's device.
pub fn fd(device: &VfioDevice) -> BorrowedFd<'_> {
    // SAFETY: the `VfioDevice` owns its descriptor, and the result borrows the `VfioDevice`.
    unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) }
}
