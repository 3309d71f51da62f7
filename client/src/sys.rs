//! The two ioctls, and descriptors of types that do not implement `AsFd`. No other module has
//! unsafe code.
#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE, vfio_irq_info};
use vfio_irq_engine::abi::Header;
use vfio_irq_engine::abi::Info;
use vmm_sys_util::eventfd::EventFd;

/// Returns the number of a VFIO ioctl, `_IO(';', 100 + n)`.
const fn number(n: u32) -> Opcode {
    (((VFIO_TYPE as u32) << 8) | (VFIO_BASE + n)) as Opcode
}

const GET_IRQ_INFO: Opcode = number(9);
const SET_IRQS: Opcode = number(10);

struct GetIrqInfo<'a>(&'a mut vfio_irq_info);

// SAFETY: the kernel writes at most `argsz` bytes, which is the size of the borrowed structure.
unsafe impl Ioctl for GetIrqInfo<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        GET_IRQ_INFO
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.0).cast()
    }

    // Dereferences no pointer, so it has no preconditions.
    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<(), Errno> {
        Ok(())
    }
}

struct SetIrqs<'a>(&'a [u8]);

// SAFETY: the kernel reads `argsz` bytes and writes none. `set_irqs` checks that the slice is at
// least that long.
unsafe impl Ioctl for SetIrqs<'_> {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        SET_IRQS
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0.as_ptr().cast_mut().cast()
    }

    // Dereferences no pointer, so it has no preconditions.
    unsafe fn output_from_ptr(value: IoctlOutput, _: *mut c_void) -> Result<i32, Errno> {
        Ok(value)
    }
}

/// Calls `VFIO_DEVICE_GET_IRQ_INFO`. Returns the flags and the number of vectors, or the error of
/// the kernel.
pub(crate) fn get_irq_info(device: BorrowedFd<'_>, index: u32) -> Result<Info, Errno> {
    let argsz = u32::try_from(size_of::<vfio_irq_info>()).map_err(|_| Errno::INVAL)?;
    let mut info = vfio_irq_info { argsz, index, ..Default::default() };
    // SAFETY: the structure is as long as `argsz`. A descriptor that is not a VFIO device refuses
    // the ioctl number, unless the caller passes a device on which the number has another
    // meaning.
    unsafe { rustix::ioctl::ioctl(device, GetIrqInfo(&mut info)) }?;
    Ok(Info { flags: info.flags, count: info.count })
}

/// Calls `VFIO_DEVICE_SET_IRQS` with these bytes, header and data. Returns the value of the
/// ioctl, which is positive if the host has too few vectors. Returns EINVAL if the bytes are
/// shorter than `argsz`.
pub(crate) fn set_irqs(device: BorrowedFd<'_>, bytes: &[u8]) -> Result<i32, Errno> {
    let argsz: [u8; 4] = bytes.first_chunk().copied().ok_or(Errno::INVAL)?;
    let said = usize::try_from(u32::from_ne_bytes(argsz)).map_err(|_| Errno::INVAL)?;
    if bytes.len() < Header::LEN || said > bytes.len() {
        return Err(Errno::INVAL);
    }
    // SAFETY: the slice is at least `argsz` bytes long. For the descriptor, see `get_irq_info`.
    unsafe { rustix::ioctl::ioctl(device, SetIrqs(bytes)) }
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
