//! All unsafe code of this VMM.
#![allow(unsafe_code)]

use crate::Error;
use crate::boot::Memory;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use vfio_ioctls::{VfioContainer, VfioDevice};
use vm_memory::MmapRegion;

/// Lets the guest reach this mapping at an address of its own. Each mapping has its own slot.
pub fn map(
    vm: &VmFd,
    slot: u32,
    guest_phys_addr: u64,
    mapping: &'static MmapRegion,
) -> Result<(), Error> {
    let region = kvm_userspace_memory_region {
        slot,
        guest_phys_addr,
        memory_size: u64::try_from(mapping.size())?,
        userspace_addr: mapping.as_ptr().addr() as u64,
        flags: 0,
    };
    // SAFETY: the mapping is never unmapped. vm-memory accesses it as volatile, since the guest
    // can write to it at any time.
    Ok(unsafe { vm.set_user_memory_region(region) }?)
}

/// Lets the devices of the container read and write the guest's memory.
pub fn map_dma(container: &VfioContainer, memory: &'static Memory) -> Result<(), Error> {
    // SAFETY: the memory is never unmapped. vm-memory accesses it as volatile.
    Ok(unsafe { container.vfio_map_guest_memory(memory) }?)
}

/// Returns the file of the device, for mmap.
pub fn file(device: &VfioDevice) -> io::Result<File> {
    // SAFETY: the `VfioDevice` owns its descriptor, and keeps it open during this call.
    let fd = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
    Ok(fd.try_clone_to_owned()?.into())
}
