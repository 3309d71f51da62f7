// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The core's device: its interrupts as the PCI layer gives them, its power and its decoding.

use super::bindings::{self, vfio_pci_core_device};
use super::device::Device;
use super::Watch;
use crate::host::Shape;
use core::ptr::{addr_of, addr_of_mut, NonNull};
use kernel::ffi::c_int;
use kernel::str::CStr;
use vfio_irq_engine::{Errno, Gate, Kind, Refusal};

/// A device of vfio-pci-core.
///
/// # Invariants
///
/// Points to an initialised device that lives as long as this value: the value is part of the very
/// structure that begins with that device (`Device`).
pub(crate) struct Core(NonNull<vfio_pci_core_device>);

// SAFETY: What is done through it is ordered by the lock around `State`, or safe from any thread.
unsafe impl Send for Core {}
// SAFETY: As above.
unsafe impl Sync for Core {}

/// What must be put back once the device's registers have been touched.
/// `memory_lock` is held for reading as long as there is one.
#[must_use]
pub(crate) struct Restore {
    /// Memory decoding was turned on.
    decoded: bool,
    /// It slept, and is to sleep again.
    slept: Option<c_int>,
}

const D0: c_int = 0;
const D3HOT: c_int = 3;

/// Regions of a VFIO device lie this many bits apart in its file.
pub(super) const REGION_SHIFT: u32 = 40;

/// Where in an entry of the MSI-X table its mask bit is.
const VECTOR_CONTROL: usize = 12;

impl Core {
    /// # Safety
    ///
    /// `core` is initialised and lives as long as the value that is made of it.
    pub(super) unsafe fn new(core: NonNull<vfio_pci_core_device>) -> Self {
        Self(core)
    }

    pub(super) fn as_ptr(&self) -> *mut vfio_pci_core_device {
        self.0.as_ptr()
    }

    pub(super) fn pdev(&self) -> *mut bindings::pci_dev {
        // SAFETY: By the invariant; `pdev` never changes.
        unsafe { (*self.as_ptr()).pdev }
    }

    /// The address of the function, as in `0000:00:04.0`.
    pub(crate) fn name(&self) -> &CStr {
        // SAFETY: The PCI device outlives this value; its name is fixed while a driver is bound.
        unsafe { name_of(self.pdev()) }
    }

    /// Whether the device has an interrupt pin, as user space sees it.
    pub(crate) fn has_pin(&self) -> bool {
        // SAFETY: By the invariant; `vconfig` is a byte array or, while the device is closed, null.
        let vconfig = unsafe { (*self.as_ptr()).vconfig };
        // SAFETY: When there is one it holds all of configuration space.
        !vconfig.is_null() && unsafe { *vconfig.add(bindings::PCI_INTERRUPT_PIN as usize) } != 0
    }

    /// Whether the core has INTx, MSI or MSI-X in use.
    pub(crate) fn in_use(&self) -> bool {
        // SAFETY: By the invariant; an int that changes under the lock that the caller holds.
        let irq_type = unsafe { addr_of!((*self.as_ptr()).irq_type).read_volatile() };
        (0..=bindings::VFIO_PCI_MSIX_IRQ_INDEX as c_int).contains(&irq_type)
    }

    /// What the device can do.
    pub(crate) fn shape(&self) -> Shape {
        let core = self.as_ptr();
        // SAFETY: By the invariant; these are set when the device is opened, before any request.
        let (msi_cap, msix_cap, msix_growing) = unsafe {
            (
                (*self.pdev()).msi_cap,
                (*self.pdev()).msix_cap,
                vfio_pci_core_device::has_dyn_msix_raw(core),
            )
        };
        let mut shape = Shape::default();
        if msi_cap != 0 {
            let flags = u32::from(self.config(u32::from(msi_cap) + bindings::PCI_MSI_FLAGS));
            shape.msi = 1 << ((flags & bindings::PCI_MSI_FLAGS_QMASK) >> 1);
            shape.msi_maskable = flags & bindings::PCI_MSI_FLAGS_MASKBIT != 0;
        }
        if msix_cap != 0 {
            let flags = u32::from(self.config(u32::from(msix_cap) + bindings::PCI_MSIX_FLAGS));
            shape.msix = (flags & bindings::PCI_MSIX_FLAGS_QSIZE) + 1;
            shape.msix_growing = msix_growing;
        }
        shape
    }

    fn config(&self, at: u32) -> u16 {
        let mut word = 0;
        // SAFETY: The PCI device is live; `word` is writable. A read that fails leaves all ones.
        unsafe { bindings::pci_read_config_word(self.pdev(), at as c_int, &mut word) };
        word
    }

    fn set_config(&self, at: u32, word: u16) {
        // SAFETY: The PCI device is live.
        unsafe { bindings::pci_write_config_word(self.pdev(), at as c_int, word) };
    }

    /// Turns MSI or MSI-X on with exactly so many interrupts.
    pub(crate) fn alloc_vectors(&self, kind: Kind, vectors: u32) -> Result<(), Refusal> {
        let (index, flag) = match kind {
            Kind::Msi => (bindings::VFIO_PCI_MSI_IRQ_INDEX, bindings::PCI_IRQ_MSI),
            Kind::Msix => (bindings::VFIO_PCI_MSIX_IRQ_INDEX, bindings::PCI_IRQ_MSIX),
        };
        // SAFETY: The PCI device is live, neither kind is on (the engine's promise).
        let got = unsafe { bindings::pci_alloc_irq_vectors(self.pdev(), 1, vectors, flag) };
        match u32::try_from(got) {
            Err(_) | Ok(0) => return Err(Errno::from_raw(got).into()),
            Ok(got) if got < vectors => {
                // SAFETY: They were allocated just now and nothing is attached.
                unsafe { bindings::pci_free_irq_vectors(self.pdev()) };
                self.mask_missing_line();
                return Err(Refusal::TooFew(got));
            }
            Ok(_) => {}
        }
        // The logarithm of the vectors, rounded up: what a guest may write into the capability.
        let queue = vectors.next_power_of_two().trailing_zeros() as u8;
        self.set_mode(index, (kind == Kind::Msi).then_some(queue));
        Ok(())
    }

    /// Turns MSI or MSI-X off.
    pub(crate) fn free_vectors(&self) {
        // SAFETY: The PCI device is live, and no handler is installed (the engine's promise).
        unsafe { bindings::pci_free_irq_vectors(self.pdev()) };
        self.mask_missing_line();
        self.set_mode(bindings::VFIO_PCI_NUM_IRQS, None);
    }

    /// Turning MSI off lets the line through again, which a device without one must not have.
    fn mask_missing_line(&self) {
        // SAFETY: By the invariant; a flag that is set when the device is opened.
        if unsafe { vfio_pci_core_device::nointx_raw(self.as_ptr()) } {
            // SAFETY: The PCI device is live.
            unsafe { bindings::pci_intx(self.pdev(), 0) };
        }
    }

    /// Tells the core which index is in use: it emulates the MSI capability by that, and refuses
    /// the others. The core changes both fields in SET_IRQS only, which asks it for nothing but
    /// under the lock around `State`.
    fn set_mode(&self, index: u32, msi_queue: Option<u8>) {
        let core = self.as_ptr();
        // SAFETY: By the invariant; the core reads both fields as they are.
        unsafe {
            addr_of_mut!((*core).irq_type).write_volatile(index as c_int);
            if let Some(queue) = msi_queue {
                addr_of_mut!((*core).msi_qmax).write_volatile(queue);
            }
        }
    }

    /// The interrupt of a vector that has one.
    pub(crate) fn vector_irq(&self, number: u32) -> Option<u32> {
        // SAFETY: The PCI device is live.
        let irq = unsafe { bindings::pci_irq_vector(self.pdev(), number) };
        u32::try_from(irq).ok()
    }

    /// Gets an interrupt for one vector of MSI-X while the others go on.
    pub(crate) fn alloc_vector(&self, number: u32) -> Result<u32, Errno> {
        // SAFETY: The PCI device is live and MSI-X is on; no affinity is asked for.
        let map =
            unsafe { bindings::pci_msix_alloc_irq_at(self.pdev(), number, core::ptr::null()) };
        match u32::try_from(map.virq) {
            Ok(irq) if map.index >= 0 => Ok(irq),
            _ => Err(Errno::from_raw(map.index)),
        }
    }

    /// Gives the interrupt of one vector of MSI-X back. It has no handler any more.
    pub(crate) fn free_vector(&self, number: u32, irq: u32) {
        let map = bindings::msi_map { index: number as c_int, virq: irq as c_int };
        // SAFETY: The PCI device is live and MSI-X is on; the interrupt is the vector's.
        unsafe { bindings::pci_msix_free_irq(self.pdev(), map) };
    }

    /// Writes the vector's message into the table again.
    pub(crate) fn rewrite_message(&self, irq: u32) {
        loop {
            let mut message = cached_message(irq);
            // SAFETY: The interrupt is one of MSI-X and disabled, so that nobody but a change of
            // affinity writes its message.
            unsafe { bindings::pci_write_msi_msg(irq, &mut message) };
            // Such a change in between has been overwritten: its message is written again.
            if same(&message, &cached_message(irq)) {
                return;
            }
        }
    }

    /// Keeps the device's registers reachable while the guard lives; `None` when they are not, as
    /// far as user space and the core know. A reset behind the kernel's back may have changed that;
    /// then vectors must be attached again, which looks at the device itself.
    #[inline]
    pub(crate) fn reachable(&self) -> Option<Reachable<'_>> {
        // SAFETY: By the invariant the lock is initialised; the guard releases it.
        unsafe { bindings::down_read(memory_lock(self)) };
        let guard = Reachable(self);
        // SAFETY: By the invariant; the device is open, and the lock is held.
        unsafe { bindings::__vfio_pci_memory_enabled(self.as_ptr()) }.then_some(guard)
    }

    /// Makes the device's registers reachable, until [`Core::restore`]. Meanwhile `memory_lock` is
    /// held for reading: nobody resets the device, puts it to sleep or changes its decoding, be it
    /// through this device or through another of its set.
    pub(crate) fn ready(&self) -> Restore {
        let lock = memory_lock(self);
        // SAFETY: By the invariant the lock is initialised.
        unsafe { bindings::down_write(lock) };
        let slept = self.wake();
        let command = self.config(bindings::PCI_COMMAND);
        // SAFETY: By the invariant; a flag that is set when the device is found.
        let always = unsafe { bindings::pci_dev::no_command_memory_raw(self.pdev()) } != 0;
        let decodes = always || u32::from(command) & bindings::PCI_COMMAND_MEMORY != 0;
        if !decodes {
            self.set_config(bindings::PCI_COMMAND, command | bindings::PCI_COMMAND_MEMORY as u16);
        }
        // SAFETY: Taken above.
        unsafe { bindings::downgrade_write(lock) };
        Restore { decoded: !decodes, slept }
    }

    /// Puts the device back as it was.
    pub(crate) fn restore(&self, restore: Restore) {
        let Restore { decoded, slept } = restore;
        let lock = memory_lock(self);
        // SAFETY: Held for reading since `ready`.
        unsafe { bindings::up_read(lock) };
        if !decoded && slept.is_none() {
            return;
        }
        // SAFETY: By the invariant the lock is initialised.
        unsafe { bindings::down_write(lock) };
        // A reset through another device of the set may have come in between.
        if decoded && !self.may_decode() {
            // Only the bit that was set: turning MSI on and off changes another.
            let command = self.config(bindings::PCI_COMMAND);
            self.set_config(
                bindings::PCI_COMMAND,
                command & !(bindings::PCI_COMMAND_MEMORY as u16),
            );
        }
        if let Some(state) = slept {
            self.sleep(state);
        }
        // SAFETY: Taken above.
        unsafe { bindings::up_write(lock) };
    }

    /// Whether user space has memory decoding on.
    fn may_decode(&self) -> bool {
        // SAFETY: By the invariant; there while the device is open, all of configuration space.
        let low = unsafe { *(*self.as_ptr()).vconfig.add(bindings::PCI_COMMAND as usize) };
        u32::from(low) & bindings::PCI_COMMAND_MEMORY != 0
    }

    /// Wakes a device that user space has put to sleep; the state it slept in. One that forgets its
    /// configuration when it wakes is left alone: waking it is for the core, which saved it.
    fn wake(&self) -> Option<c_int> {
        // SAFETY: By the invariant; the state changes under `memory_lock`, which is held.
        let (state, forgets) = unsafe {
            (
                (*self.pdev()).current_state,
                vfio_pci_core_device::needs_pm_restore_raw(self.as_ptr()),
            )
        };
        if state != D3HOT || forgets {
            return None;
        }
        // SAFETY: The PCI device is live.
        let woken = unsafe { bindings::pci_set_power_state(self.pdev(), D0) };
        (woken == 0).then_some(state)
    }

    /// Puts a device that [`Core::wake`] woke to sleep again, unless it has virtual functions that
    /// need it now. What user space mapped of it meanwhile is unmapped: the next access finds it
    /// asleep, as it would have all along.
    fn sleep(&self, state: c_int) {
        let core = self.as_ptr();
        // SAFETY: By the invariant; `memory_lock` is held. The inode is there while the device is
        // open, and its first six regions are the device's memory and ROM.
        unsafe {
            if (*core).sriov_active {
                return;
            }
            if let Some(inode) = NonNull::new((*core).vdev.inode) {
                let regions = i64::from(bindings::VFIO_PCI_ROM_REGION_INDEX) << REGION_SHIFT;
                bindings::unmap_mapping_range((*inode.as_ptr()).i_mapping, 0, regions, 1);
            }
            bindings::pci_set_power_state(self.pdev(), state);
        }
    }

    /// Whether the table's entry of a vector looks as if a reset behind the kernel's back had
    /// cleared it. The kernel itself masks an entry for a moment now and then, so this may say so
    /// for nothing. The device's registers are reachable.
    pub(crate) fn table_forgot(&self, number: u32, gate: Gate) -> bool {
        match gate {
            // A reset masks every entry, and no message has address zero.
            Gate::Open => self.table_word(number, VECTOR_CONTROL).is_some_and(|word| word & 1 != 0),
            Gate::Masked => self.table_word(number, 0) == Some(0),
        }
    }

    /// Whether the table's entry of a vector is another message than the kernel wrote.
    pub(crate) fn table_differs(&self, number: u32, irq: u32) -> bool {
        let message = cached_message(irq);
        // SAFETY: However a message is looked at, its words are plain numbers.
        let words = unsafe {
            [
                message.__bindgen_anon_1.address_lo,
                message.__bindgen_anon_2.address_hi,
                message.__bindgen_anon_3.data,
            ]
        };
        (0..)
            .step_by(4)
            .zip(words)
            .any(|(at, word)| self.table_word(number, at).is_some_and(|there| there != word))
    }

    /// A word of a vector's entry; `None` where it cannot be read: the device sleeps or is gone, or
    /// the core has not mapped that far.
    fn table_word(&self, number: u32, at: usize) -> Option<u32> {
        let (core, pdev) = (self.as_ptr(), self.pdev());
        // SAFETY: By the invariant; these are set when the device is opened, and power changes
        // under `memory_lock`, which is held.
        let (bar, offset, state) =
            unsafe { (usize::from((*core).msix_bar), (*core).msix_offset, (*pdev).current_state) };
        // SAFETY: As above; the arrays are as long as they say.
        let (base, resource) = unsafe {
            ((*addr_of!((*core).barmap)).get(bar)?, (*addr_of!((*pdev).resource)).get(bar)?)
        };
        let at = u64::from(offset) + u64::from(number) * 16 + at as u64;
        let mapped = resource.end.wrapping_sub(resource.start).wrapping_add(1);
        let failed = base.is_null() || (-4095..0).contains(&(*base as isize));
        if failed || state != D0 || at + 4 > mapped {
            return None;
        }
        // SAFETY: The core mapped the whole region, and the word lies within it.
        let word = unsafe { kernel::bindings::readl(base.wrapping_byte_add(at as usize)) };
        (word != !0).then_some(word)
    }

    /// Arms an eventfd that opens or closes the gate of a vector.
    pub(crate) fn watch(&self, number: u32, gate: Gate, fd: i32) -> Result<Watch, Errno> {
        // SAFETY: By the invariant the core is the first field of a `Device`, which lives as long.
        let device = unsafe { self.0.cast::<Device>().as_ref() };
        Watch::arm(device.firing(), number, gate, fd)
    }

    /// Keeps the device out of runtime suspend until the guard is dropped; `None` when it cannot be
    /// woken.
    pub(crate) fn awake(&self) -> Option<Awake<'_>> {
        // SAFETY: The PCI device is live.
        let dev = unsafe { addr_of_mut!((*self.pdev()).dev) };
        // SAFETY: As above.
        let woken = unsafe { bindings::__pm_runtime_resume(dev, bindings::RPM_GET_PUT as c_int) };
        let guard = Awake { dev, _core: self };
        // Dropping the guard gives the count back, which a failed resume takes as well.
        (woken >= 0).then_some(guard)
    }
}

fn cached_message(irq: u32) -> bindings::msi_msg {
    // SAFETY: All zeroes are a message.
    let mut message: bindings::msi_msg = unsafe { core::mem::zeroed() };
    // SAFETY: The interrupt is one of MSI-X, so that it has a message to be copied.
    unsafe { bindings::get_cached_msi_msg(irq, &mut message) };
    message
}

fn same(one: &bindings::msi_msg, other: &bindings::msi_msg) -> bool {
    // SAFETY: However a message is looked at, its words are plain numbers.
    unsafe {
        one.__bindgen_anon_1.address_lo == other.__bindgen_anon_1.address_lo
            && one.__bindgen_anon_2.address_hi == other.__bindgen_anon_2.address_hi
            && one.__bindgen_anon_3.data == other.__bindgen_anon_3.data
    }
}

fn memory_lock(core: &Core) -> *mut bindings::rw_semaphore {
    // SAFETY: By the invariant of `Core`; only the address is taken.
    unsafe { addr_of_mut!((*core.as_ptr()).memory_lock) }
}

/// The device's registers are reachable while this lives.
pub(crate) struct Reachable<'c>(&'c Core);

impl Drop for Reachable<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Taken in `Core::reachable`.
        unsafe { bindings::up_read(memory_lock(self.0)) };
    }
}

/// The device does not suspend while this lives.
pub(crate) struct Awake<'c> {
    dev: *mut bindings::device,
    _core: &'c Core,
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        // SAFETY: The device outlives the borrow of its core.
        unsafe { bindings::__pm_runtime_idle(self.dev, bindings::RPM_GET_PUT as c_int) };
    }
}

/// The address of a PCI function, as in `0000:00:04.0`.
///
/// # Safety
///
/// `pdev` is live, and bound to a driver for as long as the name is used.
pub(super) unsafe fn name_of<'n>(pdev: *mut bindings::pci_dev) -> &'n CStr {
    // SAFETY: By the function's requirement. A device's name is `init_name`, or else its kobject's.
    unsafe {
        let dev = addr_of!((*pdev).dev);
        let name = if (*dev).init_name.is_null() { (*dev).kobj.name } else { (*dev).init_name };
        CStr::from_ptr(name.cast())
    }
}
