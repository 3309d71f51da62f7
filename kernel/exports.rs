// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The functions that the core calls.
//!
//! This module is the top of the crate: it uses the others, and only C uses it. It is unsafe
//! because C passes pointers, and turns them into types of `sys` at once.
#![allow(unsafe_code)]

use crate::host::Linux;
use crate::sys::bindings::{self, vfio_pci_core_device};
use crate::sys::{CoreDevice, Ctx};
use crate::Interrupts;
use kernel::ffi::{c_int, c_uint, c_void};
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use vfio_irq_engine::abi::{Header, Index, Request};
use vfio_irq_engine::{Event, Refusal};

/// The prototypes are the kernel's own (vfio_pci_priv.h). If a kernel changes one of them, this
/// does not compile: "`if` and `else` have incompatible types".
const _: () = {
    let _ = if true { bindings::vfio_pci_set_irqs_ioctl } else { vfio_pci_set_irqs_ioctl };
    let _ = if true { bindings::vfio_pci_intx_mask } else { vfio_pci_intx_mask };
    let _ = if true { bindings::vfio_pci_intx_unmask } else { vfio_pci_intx_unmask };
    let _ = if true { bindings::vfio_pci_irq_maskable } else { vfio_pci_irq_maskable };
    let _ = if true { bindings::vfio_pci_irq_show } else { vfio_pci_irq_show };
};

/// Executes SET_IRQS. The core has checked the request and copied its data, and holds `igate`.
///
/// The core also calls this when it closes a device, to disable the index that `irq_type` names. It
/// then holds the lock of the device set and not `igate`.
///
/// # Safety
///
/// `vdev` is an open device, under one of the two locks. `data` has as many bytes as `flags` and
/// `count` say.
#[no_mangle]
unsafe extern "C" fn vfio_pci_set_irqs_ioctl(
    vdev: *mut vfio_pci_core_device,
    flags: u32,
    index: c_uint,
    start: c_uint,
    count: c_uint,
    data: *mut c_void,
) -> c_int {
    // SAFETY: By the function's requirement. The lock makes this the only `Ctx` of the device.
    let mut ctx = unsafe { Ctx::new(CoreDevice::from_raw(vdev)) };
    // The core has checked the header, but for the action. It passes neither `argsz` nor the number
    // of vectors, so the largest values stand in for both.
    let header = Header { argsz: u32::MAX, flags, index, start, count };
    let result = header.check(u32::MAX).map_err(Refusal::from).and_then(|checked| {
        let data: &[u8] = match checked.data_len() {
            0 => &[],
            // SAFETY: By the function's requirement.
            len => unsafe { core::slice::from_raw_parts(data.cast(), len) },
        };
        set_irqs(&mut ctx, &checked.request(data)?)
    });
    result.map_or_else(Refusal::to_return, |()| 0)
}

#[inline]
fn set_irqs(ctx: &mut Ctx<Interrupts>, request: &Request<'_>) -> Result<(), Refusal> {
    if let Some(event) = Event::from_index(request.index()) {
        return set_event(ctx.vdev(), event, request);
    }
    let interrupts = ctx.get_or_insert_with(Interrupts::new)?;
    let result = interrupts.set_irqs(request);
    if interrupts.active().is_none() {
        ctx.remove();
    }
    result
}

/// Executes a request for ERR or REQ. The core has their triggers, also while no index is active.
#[cold]
fn set_event(vdev: CoreDevice, event: Event, request: &Request<'_>) -> Result<(), Refusal> {
    Ok(event.set_irqs(&mut Linux::new(vdev), request)?)
}

/// Masks INTx for configuration space and power management. Returns true if INTx was active and
/// unmasked.
///
/// # Safety
///
/// `vdev` is an open device, and the caller does not hold `igate`.
#[no_mangle]
unsafe extern "C" fn vfio_pci_intx_mask(vdev: *mut vfio_pci_core_device) -> bool {
    // SAFETY: By the function's requirement.
    let vdev = unsafe { CoreDevice::from_raw(vdev) };
    let _igate = vdev.lock_igate();
    // SAFETY: `igate` is held.
    let ctx: Ctx<Interrupts> = unsafe { Ctx::new(vdev) };
    match ctx.get().and_then(Interrupts::intx) {
        Some(intx) => intx.mask(),
        None => {
            vdev.write_disintx(true);
            false
        }
    }
}

/// Unmasks INTx for configuration space and power management.
///
/// # Safety
///
/// As for [`vfio_pci_intx_mask`].
#[no_mangle]
unsafe extern "C" fn vfio_pci_intx_unmask(vdev: *mut vfio_pci_core_device) {
    // SAFETY: By the function's requirement.
    let vdev = unsafe { CoreDevice::from_raw(vdev) };
    let _igate = vdev.lock_igate();
    // SAFETY: `igate` is held.
    let ctx: Ctx<Interrupts> = unsafe { Ctx::new(vdev) };
    match ctx.get().and_then(Interrupts::intx) {
        Some(intx) => intx.unmask(),
        None => vdev.write_disintx(false),
    }
}

/// Returns `VFIO_IRQ_INFO_MASKABLE` if single vectors of an index can be masked, and 0 otherwise,
/// for GET_IRQ_INFO (`CONTRACT.md`, I-07). The core adds its own flags.
///
/// # Safety
///
/// `vdev` is an open device.
#[no_mangle]
unsafe extern "C" fn vfio_pci_irq_maskable(vdev: *mut vfio_pci_core_device, index: u32) -> u32 {
    // SAFETY: By the function's requirement. Nothing changes here, so no lock is needed.
    let vdev = unsafe { CoreDevice::from_raw(vdev) };
    let maskable = match Index::from_raw(index) {
        Some(Index::Msi) => vdev.msi_is_maskable(),
        Some(Index::Msix) => vdev.has_msix(),
        _ => false,
    };
    if maskable {
        bindings::VFIO_IRQ_INFO_MASKABLE
    } else {
        0
    }
}

/// Prints the table of a device's interrupts (`CONTRACT.md`, B-05).
///
/// # Safety
///
/// `vdev` is registered, and the caller holds `igate` and the lock of the device set. `seq` is
/// being read.
#[no_mangle]
unsafe extern "C" fn vfio_pci_irq_show(
    vdev: *mut vfio_pci_core_device,
    seq: *mut bindings::seq_file,
) {
    // SAFETY: By the function's requirement.
    let (vdev, seq) = unsafe { (CoreDevice::from_raw(vdev), SeqFile::from_raw(seq)) };
    // SAFETY: Both locks are held.
    let ctx: Ctx<Interrupts> = unsafe { Ctx::new(vdev) };
    match ctx.get() {
        Some(interrupts) => seq.call_printf(fmt!("{interrupts}")),
        None => seq.call_printf(fmt!("mode idle\n")),
    }
}
