// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The two ioctls: bytes of user space in, an errno out.

use super::device::Device;
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::prelude::*;
use kernel::transmute::FromBytes;
use kernel::uaccess::{UserPtr, UserSlice};
use vfio_irq_engine::abi::{Header, InfoHeader, Request};
use vfio_irq_engine::{Errno, Refusal};

use crate::state::Turn;

/// Data of a request up to this many bytes is read onto the stack: sixteen descriptors.
const SMALL: usize = 64;

/// What an ioctl comes to.
pub(super) enum Answer {
    /// This is the return value.
    Own(i32),
    /// The core is to answer.
    Core,
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Own(refusal.to_return())
    }
}

impl From<Errno> for Answer {
    fn from(errno: Errno) -> Self {
        Refusal::from(errno).into()
    }
}

/// GET_IRQ_INFO (`CONTRACT.md`, I-01 to I-07).
pub(super) fn get_irq_info(device: &Device, arg: usize) -> Answer {
    info(device, arg).unwrap_or_else(Answer::from)
}

fn info(device: &Device, arg: usize) -> Result<Answer, Errno> {
    let mut bytes = [0; InfoHeader::LEN];
    read(arg, 0, &mut bytes)?;
    let header = InfoHeader::from_bytes(&bytes);
    let Some(info) = device.lock().info(header.check()?) else {
        return Ok(Answer::Core);
    };
    UserSlice::new(UserPtr::from_addr(arg), InfoHeader::LEN)
        .writer()
        .write_slice(&header.answered(info).to_bytes())
        .map_err(|_| Errno::EFAULT)?;
    Ok(Answer::Own(0))
}

/// SET_IRQS (`CONTRACT.md`, C-01 to C-10 here, the rest in the engine). `core` asks the core, with
/// the device's lock held.
pub(super) fn set_irqs(device: &Device, arg: usize, core: impl FnOnce() -> i32) -> i32 {
    match try_set_irqs(device, arg, core) {
        Ok(ret) => ret,
        Err(refusal) => refusal.to_return(),
    }
}

fn try_set_irqs(device: &Device, arg: usize, core: impl FnOnce() -> i32) -> Result<i32, Refusal> {
    let header = Header::from_words(read_value(arg, 0)?);
    let checked = header.check(device.count(header.index()?))?;
    let len = checked.data_len();
    let (word, mut small, mut large);
    let data: &[u8] = if len == 0 {
        &[]
    } else if len == size_of::<u32>() {
        // One vector is what is asked for most; its descriptor is read as a value.
        word = read_value::<u32>(arg, Header::LEN)?.to_ne_bytes();
        &word
    } else if len <= SMALL {
        small = [0; SMALL];
        let data = small.get_mut(..len).unwrap_or_default();
        read(arg, Header::LEN, data)?;
        data
    } else {
        large = KVec::from_elem(0, len, GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
        read(arg, Header::LEN, &mut large)?;
        &large
    };
    carry_out(device, &checked.request(data)?, core)
}

fn carry_out(
    device: &Device,
    request: &Request<'_>,
    core: impl FnOnce() -> i32,
) -> Result<i32, Refusal> {
    let mut state = device.lock();
    let turn = state.set_irqs(request);
    state.host.settle();
    let retired = state.host.retired();
    let ret = match turn {
        Turn::Done(outcome) => outcome.map(|()| 0),
        Turn::Core => Ok(core()),
    };
    drop(state);
    drop(retired);
    ret
}

fn read(arg: usize, at: usize, out: &mut [u8]) -> Result<(), Errno> {
    let from = UserPtr::from_addr(arg).wrapping_byte_add(at);
    UserSlice::new(from, out.len()).reader().read_slice(out).map_err(|_| Errno::EFAULT)
}

fn read_value<T: FromBytes>(arg: usize, at: usize) -> Result<T, Errno> {
    let from = UserPtr::from_addr(arg).wrapping_byte_add(at);
    UserSlice::new(from, size_of::<T>()).reader().read().map_err(|_| Errno::EFAULT)
}
