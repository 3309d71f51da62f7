//! The two ioctls, and descriptors of types that do not lend theirs. The only module with unsafe
//! code.
#![allow(unsafe_code)]

use crate::transport::Info;
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE, vfio_irq_info};
use vfio_irq_engine::abi::Header;
use vmm_sys_util::eventfd::EventFd;

/// The number of a VFIO ioctl, all of which are `_IO(';', 100 + n)`.
const fn number(n: u32) -> Opcode {
    (((VFIO_TYPE as u32) << 8) | (VFIO_BASE + n)) as Opcode
}

const GET_IRQ_INFO: Opcode = number(9);
const SET_IRQS: Opcode = number(10);

struct GetIrqInfo<'a>(&'a mut vfio_irq_info);

// SAFETY: the structure is the ioctl's own and says its own size, which is all that the kernel
// writes to.
unsafe impl Ioctl for GetIrqInfo<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        GET_IRQ_INFO
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.0).cast()
    }

    // Looks at no pointer, so there is nothing to be kept.
    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<(), Errno> {
        Ok(())
    }
}

struct SetIrqs<'a>(&'a [u8]);

// SAFETY: the kernel reads as many bytes as the header's argsz says, which `set_irqs` has compared
// with the slice, and writes none.
unsafe impl Ioctl for SetIrqs<'_> {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        SET_IRQS
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0.as_ptr().cast_mut().cast()
    }

    // Looks at no pointer, so there is nothing to be kept.
    unsafe fn output_from_ptr(value: IoctlOutput, _: *mut c_void) -> Result<i32, Errno> {
        Ok(value)
    }
}

/// `VFIO_DEVICE_GET_IRQ_INFO`.
pub(crate) fn get_irq_info(device: BorrowedFd<'_>, index: u32) -> Result<Info, Errno> {
    let argsz = u32::try_from(size_of::<vfio_irq_info>()).map_err(|_| Errno::INVAL)?;
    let mut info = vfio_irq_info { argsz, index, ..Default::default() };
    // SAFETY: a descriptor that is no VFIO device refuses a number that it does not know; one that
    // knows the number of something else would have to be handed in on purpose.
    unsafe { rustix::ioctl::ioctl(device, GetIrqInfo(&mut info)) }?;
    Ok(Info { flags: info.flags, count: info.count })
}

/// `VFIO_DEVICE_SET_IRQS` with these bytes, header and data; its return value, which is positive
/// where there are too few vectors.
pub(crate) fn set_irqs(device: BorrowedFd<'_>, bytes: &[u8]) -> Result<i32, Errno> {
    let argsz: [u8; 4] = bytes.first_chunk().copied().ok_or(Errno::INVAL)?;
    let said = usize::try_from(u32::from_ne_bytes(argsz)).map_err(|_| Errno::INVAL)?;
    if bytes.len() < Header::LEN || said > bytes.len() {
        return Err(Errno::INVAL);
    }
    // SAFETY: the structure is complete and as long as it says; descriptors as above.
    unsafe { rustix::ioctl::ioctl(device, SetIrqs(bytes)) }
}

/// A descriptor as rust-vmm's type for eventfds.
pub(crate) fn eventfd(fd: OwnedFd) -> EventFd {
    // SAFETY: the descriptor was owned, and its ownership goes into the result.
    unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) }
}

/// The descriptor of an eventfd.
pub(crate) fn eventfd_fd(eventfd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: an `EventFd` owns its descriptor, and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(eventfd.as_raw_fd()) }
}

/// The descriptor of rust-vmm's device.
#[cfg(feature = "vfio-ioctls")]
pub(crate) fn device_fd(device: &vfio_ioctls::VfioDevice) -> BorrowedFd<'_> {
    // SAFETY: a `VfioDevice` owns its descriptor, and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) }
}
