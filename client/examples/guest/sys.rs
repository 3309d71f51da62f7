//! What rust-vmm's types do not do safely.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use vfio_ioctls::{VfioDevice, VfioError, VfioOps};
use vfio_irq_conformance::vfio::Dma;

/// Lets devices reach this memory.
pub fn map(ops: &dyn VfioOps, dma: &Dma) -> Result<(), VfioError> {
    let (address, len) = dma.memory.place();
    // SAFETY: A `Mapping` is accessed through raw pointers only. It outlives what the devices do with
    // it: `Opened` holds it beside the device, which is closed first.
    unsafe { ops.vfio_dma_map(dma.iova, len, address) }
}

/// The descriptor of rust-vmm's device.
pub fn fd(device: &VfioDevice) -> BorrowedFd<'_> {
    // SAFETY: A `VfioDevice` owns its descriptor, and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) }
}
