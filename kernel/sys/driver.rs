// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The module and its PCI driver.

use super::bindings;
use super::core_device::name_of;
use super::debugfs::Directory;
use super::device::Device;
use crate::host::Policy;
use crate::module_parameters;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::addr_of;
use kernel::ffi::c_int;
use kernel::module_param::ModuleParamAccess;
use kernel::prelude::*;
use vfio_irq_engine::Retention;

/// What the parameters say of devices that are bound from now on.
pub(super) fn policy() -> Policy {
    let free = is_set(&module_parameters::free_on_detach);
    Policy {
        retention: if free { Retention::Free } else { Retention::Keep },
        bypass: is_set(&module_parameters::always_offer_bypass) || can_post(),
    }
}

/// Parameters are numbers: not every kernel that this builds for knows switches.
fn is_set(parameter: &ModuleParamAccess<u8>) -> bool {
    // A number, or a reference to one, as kernels have it.
    fn number(value: impl core::borrow::Borrow<u8>) -> u8 {
        *value.borrow()
    }
    number(parameter.value()) != 0
}

/// Whether the machine can deliver an interrupt to a guest without the host. Where it cannot, KVM
/// does not look for interrupts to take over, and offering one on every change of its trigger costs
/// more than the change.
fn can_post() -> bool {
    #[cfg(CONFIG_IRQ_REMAP)]
    // SAFETY: Any capability may be asked for.
    return unsafe { bindings::irq_remapping_cap(bindings::irq_remap_cap_IRQ_POSTING_CAP) };
    #[cfg(all(CONFIG_X86_64, not(CONFIG_IRQ_REMAP)))]
    return false;
    #[cfg(not(CONFIG_X86_64))]
    return true;
}

/// What vfio-pci lets its parameters say of a device, when it is made.
pub(super) fn apply_parameters(core: *mut bindings::vfio_pci_core_device) {
    // SAFETY: Called from `init`: nobody else knows the device yet.
    unsafe {
        (*core).set_nointxmask(is_set(&module_parameters::nointxmask));
        (*core).set_disable_idle_d3(is_set(&module_parameters::disable_idle_d3));
    }
}

/// What the PCI layer and `probe` need, at an address that stays.
#[repr(C)]
struct Registration {
    driver: UnsafeCell<bindings::pci_driver>,
    dir: Directory,
}

pub(crate) struct Module {
    registration: KBox<Registration>,
}

// SAFETY: The registration is reached by the PCI layer, which has its own locks, and by `drop`.
unsafe impl Send for Module {}
// SAFETY: As above.
unsafe impl Sync for Module {}

struct Ids([bindings::pci_device_id; 2]);
// SAFETY: Constant.
unsafe impl Sync for Ids {}

const ANY: u32 = !0;

/// Any device, but only one whose `driver_override` names this driver.
static IDS: Ids = Ids([
    bindings::pci_device_id {
        vendor: ANY,
        device: ANY,
        subvendor: ANY,
        subdevice: ANY,
        override_only: 1,
        // SAFETY: All zeroes are an identifier that says nothing more.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    },
    // SAFETY: All zeroes end the table.
    unsafe { MaybeUninit::zeroed().assume_init() },
]);

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: All zeroes are a driver that does nothing; what it is to do is filled in.
        let mut driver: bindings::pci_driver = unsafe { core::mem::zeroed() };
        driver.name = c"vfio-pci-rs".as_ptr().cast();
        driver.id_table = IDS.0.as_ptr();
        driver.probe = Some(probe);
        driver.remove = Some(remove);
        driver.sriov_configure = Some(sriov_configure);
        driver.err_handler = addr_of!(bindings::vfio_pci_core_err_handlers);
        driver.driver_managed_dma = true;
        let registration =
            Registration { driver: UnsafeCell::new(driver), dir: Directory::new(module) };
        let registration = KBox::new(registration, GFP_KERNEL)?;
        // SAFETY: The driver stays where it is until it is unregistered in `drop`; `probe` finds
        // the registration around it.
        let ret = unsafe {
            bindings::__pci_register_driver(
                registration.driver.get(),
                module.as_ptr().cast(),
                c"vfio_pci_rs".as_ptr().cast(),
            )
        };
        if ret != 0 {
            return Err(Error::from_errno(ret));
        }
        Ok(Self { registration })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: Registered in `init`. When this returns, no device is bound.
        unsafe { bindings::pci_unregister_driver(self.registration.driver.get()) };
        // Triggers of ERR and REQ may still wait for `events::release`, which is code of this module.
        // SAFETY: May be called from any context that sleeps.
        unsafe { bindings::rcu_barrier() };
    }
}

unsafe extern "C" fn probe(
    pdev: *mut bindings::pci_dev,
    _: *const bindings::pci_device_id,
) -> c_int {
    // SAFETY: In `probe`, the device's driver is this one, which is a `Registration`'s first field.
    let dir = unsafe { &(*(*pdev).driver.cast::<Registration>()).dir };
    // SAFETY: In `probe`.
    if unsafe { is_denied(pdev) } && !is_set(&module_parameters::disable_denylist) {
        // SAFETY: In `probe`.
        let name = unsafe { name_of(pdev) };
        pr_warn!(
            "{}: this device is known to endanger the host; see the parameter disable_denylist\n",
            name
        );
        return EINVAL.to_errno();
    }
    // SAFETY: In `probe`.
    match unsafe { Device::bind(pdev, dir) } {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

unsafe extern "C" fn remove(pdev: *mut bindings::pci_dev) {
    // SAFETY: The PCI layer removes what `probe` accepted.
    unsafe { Device::unbind(pdev) };
}

unsafe extern "C" fn sriov_configure(pdev: *mut bindings::pci_dev, functions: c_int) -> c_int {
    if !is_set(&module_parameters::enable_sriov) {
        return ENOENT.to_errno();
    }
    // SAFETY: The device is bound, so that this is what `bind` stored.
    unsafe {
        let core = (*pdev).dev.driver_data.cast::<bindings::vfio_pci_core_device>();
        bindings::vfio_pci_core_sriov_configure(core, functions)
    }
}

/// Intel accelerators with errata that let an untrusted user harm the host: what vfio-pci refuses.
///
/// # Safety
///
/// `pdev` is live.
unsafe fn is_denied(pdev: *mut bindings::pci_dev) -> bool {
    const INTEL: u16 = 0x8086;
    const DENIED: [u16; 8] = [0x19e2, 0x19e3, 0x37c8, 0x37c9, 0x0435, 0x0443, 0x0b25, 0x0cfe];
    // SAFETY: By the function's requirement.
    let (vendor, device) = unsafe { ((*pdev).vendor, (*pdev).device) };
    vendor == INTEL && DENIED.contains(&device)
}
