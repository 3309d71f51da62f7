//! The two ioctls, and descriptors of types that do not implement `AsFd`. No other module has
//! unsafe code.
#![allow(unsafe_code)]

use rustix::io::Errno;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE, vfio_irq_info};
use vfio_irq_engine::abi::{Header, Info};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ptr};
use vmm_sys_util::ioctl_io_nr;

ioctl_io_nr!(VFIO_DEVICE_GET_IRQ_INFO, VFIO_TYPE as u32, VFIO_BASE + 9);
ioctl_io_nr!(VFIO_DEVICE_SET_IRQS, VFIO_TYPE as u32, VFIO_BASE + 10);

/// Calls `VFIO_DEVICE_GET_IRQ_INFO`. Returns the flags and the number of vectors, or the error of
/// the kernel.
pub(crate) fn get_irq_info(device: BorrowedFd<'_>, index: u32) -> io::Result<Info> {
    let argsz = u32::try_from(size_of::<vfio_irq_info>()).map_err(|_| Errno::INVAL)?;
    let mut info = vfio_irq_info { argsz, index, ..Default::default() };
    // SAFETY: the kernel writes at most `argsz` bytes, which is the size of the structure. A
    // descriptor that is not a VFIO device refuses the ioctl number, unless the caller passes a
    // device on which the number has another meaning.
    let value = unsafe { ioctl_with_mut_ref(&device, VFIO_DEVICE_GET_IRQ_INFO(), &mut info) };
    or_errno(value)?;
    Ok(Info { flags: info.flags, count: info.count })
}

/// Calls `VFIO_DEVICE_SET_IRQS` with these bytes, header and data. Returns the value of the
/// ioctl, which is positive if the host has too few vectors. Returns EINVAL if the bytes are
/// shorter than `argsz`.
pub(crate) fn set_irqs(device: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<u32> {
    let argsz: [u8; 4] = bytes.first_chunk().copied().ok_or(Errno::INVAL)?;
    let said = usize::try_from(u32::from_ne_bytes(argsz)).map_err(|_| Errno::INVAL)?;
    if bytes.len() < Header::LEN || said > bytes.len() {
        return Err(Errno::INVAL.into());
    }
    // SAFETY: the kernel reads `argsz` bytes and writes none. The slice is at least that long. For
    // the descriptor, see `get_irq_info`.
    or_errno(unsafe { ioctl_with_ptr(&device, VFIO_DEVICE_SET_IRQS(), bytes.as_ptr()) })
}

/// Returns the value of an ioctl, or errno if the value is negative. No other system call may come
/// between the ioctl and this function.
fn or_errno(value: c_int) -> io::Result<u32> {
    u32::try_from(value).map_err(|_| io::Error::last_os_error())
}

/// Returns an owned descriptor as rust-vmm's type for eventfds.
pub(crate) fn eventfd(fd: OwnedFd) -> EventFd {
    // SAFETY: `into_raw_fd` transfers the ownership of the descriptor to the result.
    unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) }
}

/// Returns the descriptor of an eventfd.
pub(crate) fn eventfd_fd(eventfd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the `EventFd` owns its descriptor, and the result borrows the `EventFd`.
    unsafe { BorrowedFd::borrow_raw(eventfd.as_raw_fd()) }
}

/// Returns the descriptor of rust-vmm's device.
#[cfg(feature = "vfio-ioctls")]
pub(crate) fn device_fd(device: &vfio_ioctls::VfioDevice) -> BorrowedFd<'_> {
    // SAFETY: the `VfioDevice` owns its descriptor, and the result borrows the `VfioDevice`.
    unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) }
}
