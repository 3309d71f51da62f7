// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A bound device: the core's structure with ours behind it, and the operations that VFIO calls.

use super::bindings::{self, vfio_device, vfio_pci_core_device};
use super::core_device::REGION_SHIFT;
use super::debugfs::{Directory, File};
use super::driver;
use super::ioctl::{self, Answer};
use super::watch::Firing;
use super::{Core, Watch};
use crate::state::State;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{addr_of_mut, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use kernel::prelude::*;
use kernel::sync::lock::{mutex::MutexBackend, Guard};
use kernel::sync::{new_mutex, Mutex};
use vfio_irq_engine::abi::Index;
use vfio_irq_engine::Gate;

/// C allocates it, as large as it is, and knows its beginning.
#[repr(C)]
pub(crate) struct Device {
    core: UnsafeCell<vfio_pci_core_device>,
    /// Initialised from `init` to `release`, between which every other operation is called.
    ours: MaybeUninit<Pin<KBox<Ours>>>,
}

#[pin_data]
struct Ours {
    #[pin]
    state: Mutex<State>,
    /// Vectors of MSI and of MSI-X, set when the device is opened: a request is checked without the
    /// lock.
    msi: AtomicU32,
    msix: AtomicU32,
    /// The file in debugfs, while a driver is bound.
    #[pin]
    table: Mutex<Option<File>>,
    #[pin]
    firing: Firing,
}

impl Device {
    /// The device around the core's.
    ///
    /// # Safety
    ///
    /// `vdev` is the first field of a `Device` between `init` and `release`.
    unsafe fn from_vdev<'d>(vdev: *mut vfio_device) -> &'d Self {
        // SAFETY: By the function's requirement.
        unsafe { &*vdev.cast::<Self>() }
    }

    fn ours(&self) -> &Ours {
        // SAFETY: Initialised in `init`, before anything else is called.
        unsafe { self.ours.assume_init_ref() }
    }

    pub(super) fn lock(&self) -> Guard<'_, State, MutexBackend> {
        self.ours().state.lock()
    }

    /// The lock, unless somebody has it.
    pub(super) fn try_lock(&self) -> Option<Guard<'_, State, MutexBackend>> {
        self.ours().state.try_lock()
    }

    /// Runs what the core does on behalf of user space and what could change the device's power,
    /// its command register or its capabilities, while no request is being carried out. Parts of
    /// that the core does outside its own lock, and with a request between them they would undo, or
    /// be undone by, what a request does to reach the device's registers.
    ///
    /// User space may keep this waiting, by a page that it does not provide; only this device then
    /// waits with it.
    fn alone<R>(&self, core: impl FnOnce() -> R) -> R {
        let _state = self.lock();
        core()
    }

    /// Number of vectors of an index.
    pub(super) fn count(&self, index: Index) -> u32 {
        match index {
            Index::Intx => u32::from(self.core().has_pin()),
            Index::Msi => self.ours().msi.load(Ordering::Relaxed),
            Index::Msix => self.ours().msix.load(Ordering::Relaxed),
            Index::Err | Index::Req => 1,
        }
    }

    fn core(&self) -> Core {
        // SAFETY: The core is live as long as `self`, longer than whoever asks.
        unsafe { Core::new(NonNull::from(&self.core).cast()) }
    }

    fn opened(&self) {
        let shape = self.lock().host.opened();
        self.ours().msi.store(shape.msi, Ordering::Relaxed);
        self.ours().msix.store(shape.msix, Ordering::Relaxed);
    }

    /// The work behind a watch.
    pub(super) fn watch_fired(&self, number: u32, gate: Gate, is: impl FnOnce(&Watch) -> bool) {
        let core = self.core();
        // Resuming calls back into the core, so it comes before the lock.
        let Some(_awake) = core.awake() else { return };
        let mut state = self.lock();
        state.watch_fired(number, gate, is);
    }

    pub(super) fn firing(&self) -> &Firing {
        &self.ours().firing
    }

    /// Makes a device for a PCI function that is being bound, with its file in debugfs.
    ///
    /// # Safety
    ///
    /// `pdev` is in `probe`.
    pub(super) unsafe fn bind(pdev: *mut bindings::pci_dev, dir: &Directory) -> Result {
        // SAFETY: By the function's requirement; the size is that of the structure which the
        // operations expect.
        let vdev = unsafe {
            bindings::_vfio_alloc_device(size_of::<Self>(), addr_of_mut!((*pdev).dev), &OPS.0)
        };
        let vdev = kernel::error::from_err_ptr(vdev)?;
        let core = vdev.cast::<vfio_pci_core_device>();
        // SAFETY: Allocated and initialised just now, and not registered yet.
        let ret = unsafe {
            (*core).pci_ops = &PCI_OPS.0;
            (*pdev).dev.driver_data = core.cast();
            bindings::vfio_pci_core_register_device(core)
        };
        if ret != 0 {
            // SAFETY: The reference of the allocation is given up.
            unsafe { bindings::put_device(addr_of_mut!((*vdev).device)) };
            return Err(Error::from_errno(ret));
        }
        // SAFETY: Registered just now; `remove` is not called before `probe` returns.
        unsafe { Self::from_vdev(vdev) }.show_in(dir);
        Ok(())
    }

    fn show_in(&self, dir: &Directory) {
        // SAFETY: The directory is the driver's, at rest until no device is bound; `unbind` drops
        // the file before it gives the device up.
        let file = unsafe { dir.file(self.core().name(), self) };
        *self.ours().table.lock() = Some(file);
    }

    /// Gives up a device whose PCI function is being unbound. Waits until user space has closed it.
    ///
    /// # Safety
    ///
    /// `pdev` is in `remove`, and `bind` succeeded.
    pub(super) unsafe fn unbind(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the function's requirement.
        let core = unsafe { (*pdev).dev.driver_data.cast::<vfio_pci_core_device>() };
        // SAFETY: As above.
        unsafe { bindings::vfio_pci_core_unregister_device(core) };
        // SAFETY: The device is there until the reference of the allocation is given up below.
        let file = unsafe { Self::from_vdev(core.cast()) }.ours().table.lock().take();
        // Waits for readers, who take the lock of the state; no lock is held here.
        drop(file);
        // SAFETY: As above.
        unsafe { bindings::put_device(addr_of_mut!((*core).vdev.device)) };
    }
}

struct Ops(bindings::vfio_device_ops);
// SAFETY: Constant, and its pointers are to constants and functions.
unsafe impl Sync for Ops {}

struct PciOps(bindings::vfio_pci_device_ops);
// SAFETY: As above.
unsafe impl Sync for PciOps {}

static OPS: Ops = Ops(bindings::vfio_device_ops {
    name: c"vfio-pci-rs".as_ptr().cast_mut().cast::<c_char>(),
    init: Some(init),
    release: Some(release),
    open_device: Some(open_device),
    close_device: Some(close_device),
    ioctl: Some(ioctl),
    write: Some(write),
    get_region_info_caps: Some(get_region_info_caps),
    device_feature: Some(device_feature),
    read: Some(bindings::vfio_pci_core_read),
    mmap: Some(bindings::vfio_pci_core_mmap),
    request: Some(bindings::vfio_pci_core_request),
    match_: Some(bindings::vfio_pci_core_match),
    match_token_uuid: Some(bindings::vfio_pci_core_match_token_uuid),
    #[cfg(CONFIG_IOMMUFD)]
    bind_iommufd: Some(bindings::vfio_iommufd_physical_bind),
    #[cfg(CONFIG_IOMMUFD)]
    unbind_iommufd: Some(bindings::vfio_iommufd_physical_unbind),
    #[cfg(CONFIG_IOMMUFD)]
    attach_ioas: Some(bindings::vfio_iommufd_physical_attach_ioas),
    #[cfg(CONFIG_IOMMUFD)]
    detach_ioas: Some(bindings::vfio_iommufd_physical_detach_ioas),
    #[cfg(CONFIG_IOMMUFD)]
    pasid_attach_ioas: Some(bindings::vfio_iommufd_physical_pasid_attach_ioas),
    #[cfg(CONFIG_IOMMUFD)]
    pasid_detach_ioas: Some(bindings::vfio_iommufd_physical_pasid_detach_ioas),
    // SAFETY: All zeroes are operations that are not there.
    ..unsafe { MaybeUninit::zeroed().assume_init() }
});

static PCI_OPS: PciOps = PciOps(bindings::vfio_pci_device_ops {
    #[cfg(CONFIG_VFIO_PCI_DMABUF)]
    get_dmabuf_phys: Some(bindings::vfio_pci_core_get_dmabuf_phys),
    #[cfg(not(CONFIG_VFIO_PCI_DMABUF))]
    get_dmabuf_phys: None,
});

/// # Safety
///
/// For VFIO to call, as are those below: `vdev` is the beginning of a `Device`, and the other
/// arguments are what the operation of this name is given.
unsafe extern "C" fn init(vdev: *mut vfio_device) -> c_int {
    let device = vdev.cast::<Device>();
    // SAFETY: The core is the first field of the device that holds `Ours`. Nothing is asked of it
    // before it is initialised below.
    let core = unsafe { Core::new(NonNull::new_unchecked(device.cast())) };
    let ours = pin_init!(Ours {
        state <- State::new(core, driver::policy()),
        firing <- Firing::new(device),
        msi: AtomicU32::new(0),
        msix: AtomicU32::new(0),
        table <- new_mutex!(None, "vfio-pci-rs debugfs"),
    });
    let Ok(ours) = KBox::pin_init(ours, GFP_KERNEL) else { return ENOMEM.to_errno() };
    driver::apply_parameters(vdev.cast());
    // SAFETY: VFIO initialises a device that `bind` allocated, as large as a `Device` and zeroed.
    let ret = unsafe { bindings::vfio_pci_core_init_dev(vdev) };
    if ret == 0 {
        // SAFETY: The place is valid and empty; it is dropped in `release`.
        unsafe { addr_of_mut!((*device).ours).cast::<Pin<KBox<Ours>>>().write(ours) };
    }
    ret
}

unsafe extern "C" fn release(vdev: *mut vfio_device) {
    let device = vdev.cast::<Device>();
    // SAFETY: Initialised in `init`; nothing is called after this.
    unsafe { (*device).ours.assume_init_drop() };
    // SAFETY: As above.
    unsafe { bindings::vfio_pci_core_release_dev(vdev) };
}

unsafe extern "C" fn open_device(vdev: *mut vfio_device) -> c_int {
    let core = vdev.cast::<vfio_pci_core_device>();
    // SAFETY: VFIO opens a device that is registered and closed.
    let ret = unsafe { bindings::vfio_pci_core_enable(core) };
    if ret == 0 {
        // SAFETY: Between `init` and `release`.
        unsafe { Device::from_vdev(vdev) }.opened();
        // SAFETY: Enabled just now.
        unsafe { bindings::vfio_pci_core_finish_enable(core) };
    }
    ret
}

unsafe extern "C" fn close_device(vdev: *mut vfio_device) {
    // SAFETY: Between `init` and `release`.
    let device = unsafe { Device::from_vdev(vdev) };
    {
        let core = device.core();
        // User space may have left it suspended. Should it not wake, its vectors still must go.
        let _awake = core.awake();
        let retired = device.lock().close();
        // Without the lock, which the work behind them takes.
        drop(retired);
    }
    // SAFETY: Open until now. No vector is left that it would free under its handler.
    unsafe { bindings::vfio_pci_core_close_device(vdev) };
}

unsafe extern "C" fn ioctl(vdev: *mut vfio_device, cmd: c_uint, arg: c_ulong) -> c_long {
    // SAFETY: Between `init` and `release`.
    let device = unsafe { Device::from_vdev(vdev) };
    // SAFETY: VFIO passes on what user space asked of an open device.
    let core = || unsafe { bindings::vfio_pci_core_ioctl(vdev, cmd, arg) };
    match cmd {
        bindings::vfio_irq_set_irqs => ioctl::set_irqs(device, arg, || core() as i32) as c_long,
        bindings::vfio_irq_get_irq_info => match ioctl::get_irq_info(device, arg) {
            Answer::Own(ret) => ret as c_long,
            Answer::Core => core(),
        },
        bindings::vfio_irq_reset => device.alone(core),
        _ => core(),
    }
}

/// # Safety
///
/// As for `init`; the device is open.
unsafe extern "C" fn write(
    vdev: *mut vfio_device,
    buf: *const c_char,
    count: usize,
    pos: *mut bindings::loff_t,
) -> isize {
    // SAFETY: Between `init` and `release`; `pos` is VFIO's own.
    let (device, at) = unsafe { (Device::from_vdev(vdev), *pos) };
    // SAFETY: VFIO passes on what user space asked of an open device.
    let core = || unsafe { bindings::vfio_pci_core_write(vdev, buf, count, pos) };
    if at >> REGION_SHIFT == i64::from(bindings::VFIO_PCI_CONFIG_REGION_INDEX) {
        device.alone(core)
    } else {
        core()
    }
}

unsafe extern "C" fn get_region_info_caps(
    vdev: *mut vfio_device,
    info: *mut bindings::vfio_region_info,
    caps: *mut bindings::vfio_info_cap,
) -> c_int {
    // SAFETY: Between `init` and `release`.
    let device = unsafe { Device::from_vdev(vdev) };
    // SAFETY: VFIO passes on what user space asked of an open device.
    device.alone(|| unsafe { bindings::vfio_pci_ioctl_get_region_info(vdev, info, caps) })
}

unsafe extern "C" fn device_feature(
    vdev: *mut vfio_device,
    flags: u32,
    arg: *mut c_void,
    size: usize,
) -> c_int {
    // SAFETY: Between `init` and `release`.
    let device = unsafe { Device::from_vdev(vdev) };
    // SAFETY: VFIO passes on what user space asked of an open device.
    device.alone(|| unsafe { bindings::vfio_pci_core_ioctl_feature(vdev, flags, arg, size) })
}

// The core's device is found at the beginning of ours.
const _: () = assert!(core::mem::offset_of!(Device, core) == 0);
const _: () = assert!(core::mem::offset_of!(vfio_pci_core_device, vdev) == 0);
