// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The functions that the core calls, and where it keeps what they know of a device.
//!
//! While an index is active, the core's XArray `ctx` holds the device's [`Interrupts`] at index 0.
//! Nothing else uses the array, since the C file that did is replaced by this crate.

use super::bindings::{self, vfio_pci_core_device};
use super::intx::follow_guest;
use super::Core;
use crate::host::Linux;
use crate::Interrupts;
use core::ptr::{addr_of_mut, NonNull};
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::ffi::{c_int, c_uint, c_void};
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::lock::{mutex::MutexBackend, Guard, Lock};
use vfio_irq_engine::abi::{Header, Index, Request};
use vfio_irq_engine::{Errno, Event, Refusal};

/// The prototypes are the kernel's own (vfio_pci_priv.h). A kernel that changes one of them does not
/// compile here: "`if` and `else` have incompatible types".
const _: () = {
    let _ = if true { bindings::vfio_pci_set_irqs_ioctl } else { vfio_pci_set_irqs_ioctl };
    let _ = if true { bindings::vfio_pci_intx_mask } else { vfio_pci_intx_mask };
    let _ = if true { bindings::vfio_pci_intx_unmask } else { vfio_pci_intx_unmask };
    let _ = if true { bindings::vfio_pci_irq_maskable } else { vfio_pci_irq_maskable };
    let _ = if true { bindings::vfio_pci_irq_show } else { vfio_pci_irq_show };
};

/// SET_IRQS. The core has checked the request and copied its data, and holds `igate`. It also calls
/// this when it closes a device, to disable the index that `irq_type` names, if any: then without
/// `igate`, under the lock of the device's set.
///
/// # Safety
///
/// `vdev` is an open device, under one of the two locks. `data` is as many bytes as `flags` and
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
    // SAFETY: By the function's requirement.
    let core = unsafe { Core::new(NonNull::new_unchecked(vdev)) };
    // The core has checked all that a header can be wrong in but its action.
    let header = Header { argsz: u32::MAX, flags, index, start, count };
    let answered = header.check(u32::MAX).map_err(Refusal::from).and_then(|checked| {
        let data: &[u8] = match checked.data_len() {
            0 => &[],
            // SAFETY: By the function's requirement.
            len => unsafe { core::slice::from_raw_parts(data.cast(), len) },
        };
        set_irqs(core, &checked.request(data)?)
    });
    answered.map_or_else(Refusal::to_return, |()| 0)
}

#[inline]
fn set_irqs(core: Core, request: &Request<'_>) -> Result<(), Refusal> {
    if let Some(event) = Event::from_index(request.index()) {
        return set_event(core, event, request);
    }
    let mut kept = match find(core) {
        Some(kept) => kept,
        None => keep(core)?,
    };
    // SAFETY: The caller holds a lock that makes this the only reference.
    let interrupts = unsafe { kept.as_mut() };
    let answered = interrupts.set_irqs(request);
    if interrupts.active().is_none() {
        forget(core, kept);
    }
    answered
}

/// ERR and REQ are kept by the core itself, also while no index is active.
#[cold]
fn set_event(core: Core, event: Event, request: &Request<'_>) -> Result<(), Refusal> {
    Ok(event.set_irqs(&mut Linux::new(core), request)?)
}

/// Returns what is known of the device's interrupts, if an index is active. The only entry of an
/// XArray is its head, if its index is 0 (xarray.h); `xa_load` takes seventy instructions to find that
/// out.
#[inline]
fn find(core: Core) -> Option<NonNull<Interrupts>> {
    // SAFETY: By the invariant of `Core` the array is initialised, and does not change meanwhile.
    NonNull::new(unsafe { (*core.as_ptr()).ctx.xa_head }.cast())
}

#[cold]
fn keep(core: Core) -> Result<NonNull<Interrupts>, Errno> {
    let new = KBox::new(Interrupts::new(core), GFP_KERNEL_ACCOUNT).map_err(|_| Errno::ENOMEM)?;
    let kept = KBox::into_raw(new);
    // SAFETY: The array is initialised. The pointer is aligned as allocations are, and so no value
    // that the array keeps for itself.
    let old = unsafe {
        let ctx = addr_of_mut!((*core.as_ptr()).ctx);
        bindings::xa_store(ctx, 0, kept.cast(), bindings::GFP_KERNEL_ACCOUNT)
    };
    if old.is_null() {
        return NonNull::new(kept).ok_or(Errno::ENOMEM);
    }
    // The place was empty, so this is an error.
    // SAFETY: From `into_raw`, and the array did not take it.
    drop(unsafe { KBox::from_raw(kept) });
    Err(Errno::ENOMEM)
}

/// Drops what `keep` made, when no index is active any more.
#[cold]
fn forget(core: Core, kept: NonNull<Interrupts>) {
    // SAFETY: `keep` stored it, and nothing refers to it once it is erased.
    unsafe {
        bindings::xa_erase(addr_of_mut!((*core.as_ptr()).ctx), 0);
        drop(KBox::from_raw(kept.as_ptr()));
    }
}

fn lock_igate<'d>(core: Core) -> Guard<'d, (), MutexBackend> {
    // SAFETY: By the invariant of `Core` the lock is initialised, and outlives the guard.
    unsafe { Lock::<(), MutexBackend>::from_raw(addr_of_mut!((*core.as_ptr()).igate)) }.lock()
}

/// Masks INTx for configuration space and power management. Returns true if INTx was active and not
/// masked.
///
/// # Safety
///
/// `vdev` is an open device, and `igate` is not held.
#[no_mangle]
unsafe extern "C" fn vfio_pci_intx_mask(vdev: *mut vfio_pci_core_device) -> bool {
    // SAFETY: By the function's requirement.
    let core = unsafe { Core::new(NonNull::new_unchecked(vdev)) };
    let _igate = lock_igate(core);
    // SAFETY: `igate` is held: nothing changes what is found.
    match find(core).and_then(|kept| unsafe { kept.as_ref() }.intx()) {
        Some(intx) => intx.mask(),
        None => {
            follow_guest(core, false);
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
    let core = unsafe { Core::new(NonNull::new_unchecked(vdev)) };
    let _igate = lock_igate(core);
    // SAFETY: `igate` is held: nothing changes what is found.
    match find(core).and_then(|kept| unsafe { kept.as_ref() }.intx()) {
        Some(intx) => intx.unmask(),
        None => follow_guest(core, true),
    }
}

/// Returns `VFIO_IRQ_INFO_MASKABLE` where single vectors of an index can be masked, for GET_IRQ_INFO
/// (`CONTRACT.md`, I-07). The core adds its own flags.
///
/// # Safety
///
/// `vdev` is an open device.
#[no_mangle]
unsafe extern "C" fn vfio_pci_irq_maskable(vdev: *mut vfio_pci_core_device, index: u32) -> u32 {
    // SAFETY: By the function's requirement. Nothing is changed, so no lock is needed.
    let core = unsafe { Core::new(NonNull::new_unchecked(vdev)) };
    let maskable = match Index::from_raw(index) {
        Some(Index::Msi) => core.msi_is_maskable(),
        Some(Index::Msix) => core.has_msix(),
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
/// `vdev` is registered, and `igate` and the lock of its set are held. `seq` is being read.
#[no_mangle]
unsafe extern "C" fn vfio_pci_irq_show(
    vdev: *mut vfio_pci_core_device,
    seq: *mut bindings::seq_file,
) {
    // SAFETY: By the function's requirement.
    let (core, seq) = unsafe { (Core::new(NonNull::new_unchecked(vdev)), SeqFile::from_raw(seq)) };
    match find(core) {
        // SAFETY: Both locks are held: nothing changes what is found.
        Some(kept) => seq.call_printf(fmt!("{}", unsafe { kept.as_ref() })),
        None => seq.call_printf(fmt!("mode idle\n")),
    }
}
