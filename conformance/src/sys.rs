//! Wraps the system calls that no safe crate wraps: the ioctls of VFIO, and memory that a device or
//! the kernel accesses. This is the only module with unsafe code.
#![allow(unsafe_code)]

use crate::{Answer, Error};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, UserfaultfdFlags};
use std::ffi::{CStr, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::time::Duration;
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_TYPE, VFIO_TYPE1v2_IOMMU,
    vfio_iommu_type1_dma_map, vfio_region_info,
};

const PAGE: usize = 4096;

/// Returns the number of a VFIO ioctl, all of which are `_IO(';', 100 + n)`.
const fn number(n: u32) -> u32 {
    ((VFIO_TYPE as u32) << 8) | (VFIO_BASE + n)
}

const SET_IOMMU: u32 = number(2);
const GROUP_SET_CONTAINER: u32 = number(4);
const GROUP_GET_DEVICE_FD: u32 = number(6);
const DEVICE_GET_REGION_INFO: u32 = number(8);
const DEVICE_GET_IRQ_INFO: u32 = number(9);
const DEVICE_SET_IRQS: u32 = number(10);
const DEVICE_RESET: u32 = number(11);
const DEVICE_FEATURE: u32 = number(17);
const IOMMU_MAP_DMA: u32 = number(13);

/// Makes one ioctl. Returns its return value, or the negative error number.
///
/// # Safety
/// `argument` is what the ioctl of this number takes.
unsafe fn ioctl(fd: BorrowedFd<'_>, number: u32, argument: *mut c_void) -> Answer {
    // SAFETY: the caller's promise.
    let value = unsafe { libc::ioctl(fd.as_raw_fd(), libc::Ioctl::from(number), argument) };
    if value >= 0 {
        return Answer(value);
    }
    Answer(-std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Sets the IOMMU model of a container to type 1, second version.
pub fn set_iommu(container: BorrowedFd<'_>) -> Answer {
    let model = VFIO_TYPE1v2_IOMMU as usize as *mut c_void;
    // SAFETY: the argument is a number, not an address.
    unsafe { ioctl(container, SET_IOMMU, model) }
}

/// Adds a group to a container.
pub fn group_set_container(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> Answer {
    let mut fd = container.as_raw_fd();
    // SAFETY: the argument is the address of a descriptor, which is only read.
    unsafe { ioctl(group, GROUP_SET_CONTAINER, (&raw mut fd).cast()) }
}

/// Opens a device of a group by its name. Returns its descriptor, or the answer of the ioctl.
pub fn group_device(group: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Answer> {
    let name = name.as_ptr().cast_mut().cast();
    // SAFETY: the argument is a string with its end, which is only read.
    let answer = unsafe { ioctl(group, GROUP_GET_DEVICE_FD, name) };
    if answer.0 < 0 {
        return Err(answer);
    }
    // SAFETY: the kernel has just opened this descriptor for this call, and no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer.0) })
}

/// Returns the offset and the size of a region of a device.
pub fn region_info(device: BorrowedFd<'_>, index: u32) -> Result<vfio_region_info, Answer> {
    let argsz = u32::try_from(size_of::<vfio_region_info>()).unwrap_or(0);
    let mut info = vfio_region_info { argsz, index, ..Default::default() };
    // SAFETY: the argument is the ioctl's own structure, of the size that it says.
    let answer = unsafe { ioctl(device, DEVICE_GET_REGION_INFO, (&raw mut info).cast()) };
    if answer.0 < 0 { Err(answer) } else { Ok(info) }
}

/// Resets a device.
pub fn device_reset(device: BorrowedFd<'_>) -> Answer {
    // SAFETY: this ioctl takes no argument.
    unsafe { ioctl(device, DEVICE_RESET, std::ptr::null_mut()) }
}

/// Puts a device into low power until its user accesses it; the eventfd is signalled if the host
/// wakes it.
pub fn enter_low_power(device: BorrowedFd<'_>, wakeup: i32) -> Answer {
    const SET_ENTRY_WITH_WAKEUP: u32 = 1 << 17 | 4;
    let mut request = [16, SET_ENTRY_WITH_WAKEUP, wakeup.cast_unsigned(), 0_u32];
    // SAFETY: the argument is `struct vfio_device_feature` with the feature's own structure behind
    // it: an eventfd and a reserved word.
    unsafe { ioctl(device, DEVICE_FEATURE, request.as_mut_ptr().cast()) }
}

/// Maps memory into the container's IOMMU at a bus address.
pub fn map_dma(container: BorrowedFd<'_>, memory: &Mapping, iova: u64) -> Answer {
    let mut map = vfio_iommu_type1_dma_map {
        argsz: u32::try_from(size_of::<vfio_iommu_type1_dma_map>()).unwrap_or(0),
        flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: memory.start.as_ptr() as u64,
        iova,
        size: memory.len as u64,
    };
    // SAFETY: the argument is the ioctl's own structure. The kernel pins the pages, so they outlive
    // the mapping; in the meantime they are only accessed through raw, volatile accesses.
    unsafe { ioctl(container, IOMMU_MAP_DMA, (&raw mut map).cast()) }
}

/// Memory outside Rust's own: a device's registers, or pages that a device writes.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

/// A number: all patterns of its bytes are values.
trait Number: Copy {}
impl Number for u8 {}
impl Number for u16 {}
impl Number for u32 {}

// SAFETY: the mapping belongs to no thread, and every access to it is one volatile access of an
// aligned number.
unsafe impl Send for Mapping {}
// SAFETY: as above; of two threads that write the same bytes, each byte is left with the value of one.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// New pages, all zero.
    pub fn anonymous(len: usize) -> Result<Self, Error> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, protection, flags) };
        Self::adopt(start, len)
    }

    /// Maps a region of a device.
    pub fn of_device(device: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self, Error> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, device, offset)
        };
        Self::adopt(start, len)
    }

    fn adopt(start: rustix::io::Result<*mut c_void>, len: usize) -> Result<Self, Error> {
        let start = start.map_err(|source| Error::Map { len, source })?;
        let start = NonNull::new(start.cast()).ok_or(Error::Outside { offset: 0, len })?;
        Ok(Self { start, len })
    }

    /// Returns address and length, for callers that map it for devices by other means than
    /// [`map_dma`].
    pub fn place(&self) -> (*mut u8, usize) {
        (self.start.as_ptr(), self.len)
    }

    fn at<T>(&self, offset: usize) -> Result<*mut T, Error> {
        let fits = offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len);
        if !fits || !offset.is_multiple_of(align_of::<T>()) {
            return Err(Error::Outside { offset, len: self.len });
        }
        Ok(self.start.as_ptr().wrapping_add(offset).cast())
    }

    /// Reads a number with one access.
    fn load<T: Number>(&self, offset: usize) -> Result<T, Error> {
        let at = self.at::<T>(offset)?;
        // SAFETY: inside the mapping and aligned, as `at` has checked; all bytes are a number.
        Ok(unsafe { at.read_volatile() })
    }

    /// Writes a number with one access, ordered after all earlier writes.
    #[inline]
    fn store<T: Number>(&self, offset: usize, value: T) -> Result<(), Error> {
        let at = self.at::<T>(offset)?;
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        // SAFETY: inside the mapping and aligned, as `at` has checked.
        unsafe { at.write_volatile(value) };
        Ok(())
    }

    /// Reads a word with one access. Returns it.
    pub fn read32(&self, offset: usize) -> Result<u32, Error> {
        self.load(offset)
    }

    /// Writes a word with one access, ordered after all earlier writes.
    #[inline]
    pub fn write32(&self, offset: usize, value: u32) -> Result<(), Error> {
        self.store(offset, value)
    }

    /// Reads 1, 2 or 4 bytes with one access.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
        match bytes.len() {
            1 => bytes.copy_from_slice(&[self.load::<u8>(offset)?]),
            2 => bytes.copy_from_slice(&self.load::<u16>(offset)?.to_ne_bytes()),
            4 => bytes.copy_from_slice(&self.load::<u32>(offset)?.to_ne_bytes()),
            len => return Err(Error::Outside { offset, len }),
        }
        Ok(())
    }

    /// Writes 1, 2 or 4 bytes with one access, ordered after all earlier writes.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        match *bytes {
            [a] => self.store(offset, a),
            [a, b] => self.store(offset, u16::from_ne_bytes([a, b])),
            [a, b, c, d] => self.store(offset, u32::from_ne_bytes([a, b, c, d])),
            _ => Err(Error::Outside { offset, len: bytes.len() }),
        }
    }

    /// Reads a word through the kernel, which reports an unreachable device instead of sending
    /// SIGBUS. The word goes into `sink`, which can hold it. Returns true if the word was readable.
    pub fn reachable(&self, offset: usize, sink: BorrowedFd<'_>) -> Result<bool, Error> {
        let at = self.at::<u32>(offset)?;
        // SAFETY: inside the mapping, as `at` has checked; the kernel only reads there, and reports
        // what it cannot read.
        let written = unsafe { libc::pwrite(sink.as_raw_fd(), at.cast(), size_of::<u32>(), 0) };
        if written >= 0 {
            return Ok(true);
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EFAULT) => Ok(false),
            errno => {
                let source = rustix::io::Errno::from_raw_os_error(errno.unwrap_or(libc::EIO));
                Err(Error::Descriptor { what: "written to", source })
            }
        }
    }

    /// Writes zeros.
    pub fn clear(&self, offset: usize, len: usize) -> Result<(), Error> {
        (offset..offset.saturating_add(len)).step_by(4).try_for_each(|at| self.write32(at, 0))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and nothing borrows from it.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping that was made can be unmapped");
    }
}

/// Bytes of an ioctl in front of an unreadable page. If a request claims more data than it carries,
/// the kernel always answers EFAULT.
#[derive(Debug)]
pub struct GuardedBytes {
    pages: Mapping,
    len: usize,
}

impl GuardedBytes {
    const ROOM: usize = 4 * PAGE;

    /// Allocates room for a request of up to 16 KiB, which is empty at first.
    pub fn new() -> Result<Self, Error> {
        let pages = Mapping::anonymous(Self::ROOM + PAGE)?;
        let guard = pages.start.as_ptr().wrapping_add(Self::ROOM).cast();
        // SAFETY: the last page of our own mapping, which nothing accesses.
        unsafe { rustix::mm::mprotect(guard, PAGE, MprotectFlags::empty()) }
            .map_err(|source| Error::Map { len: PAGE, source })?;
        Ok(Self { pages, len: 0 })
    }

    /// Allocates room that holds these bytes.
    pub fn with(bytes: &[u8]) -> Result<Self, Error> {
        let mut guarded = Self::new()?;
        guarded.put(bytes)?;
        Ok(guarded)
    }

    /// Replaces the bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > Self::ROOM {
            return Err(Error::Outside { offset: bytes.len(), len: Self::ROOM });
        }
        self.len = bytes.len();
        // SAFETY: `len` bytes before the guard are inside the mapping, which only `self` uses.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start(), bytes.len()) };
        Ok(())
    }

    /// Copies the bytes out, as the kernel left them.
    pub fn take(&self, bytes: &mut [u8]) {
        let len = self.len.min(bytes.len());
        // SAFETY: as in `put`.
        unsafe { std::ptr::copy_nonoverlapping(self.start(), bytes.as_mut_ptr(), len) };
    }

    fn start(&self) -> *mut u8 {
        self.pages.start.as_ptr().wrapping_add(Self::ROOM - self.len)
    }

    /// Makes `VFIO_DEVICE_SET_IRQS` with these bytes. Returns the answer.
    #[inline]
    pub fn set_irqs(&self, device: BorrowedFd<'_>) -> Answer {
        // SAFETY: the kernel only reads here, and reports what it cannot read.
        unsafe { ioctl(device, DEVICE_SET_IRQS, self.start().cast()) }
    }

    /// Makes `VFIO_DEVICE_GET_IRQ_INFO` with these bytes, which the answer overwrites. Returns the
    /// return value.
    pub fn get_irq_info(&mut self, device: BorrowedFd<'_>) -> Answer {
        // SAFETY: the kernel writes 16 bytes from the start on: into our pages, or into the guard,
        // which it reports.
        unsafe { ioctl(device, DEVICE_GET_IRQ_INFO, self.start().cast()) }
    }

    /// Acts as [`GuardedBytes::get_irq_info`], with the pages read-only during the call.
    pub fn get_irq_info_unwritable(&mut self, device: BorrowedFd<'_>) -> Result<Answer, Error> {
        self.protect(MprotectFlags::READ)?;
        let answer = self.get_irq_info(device);
        self.protect(MprotectFlags::READ | MprotectFlags::WRITE)?;
        Ok(answer)
    }

    fn protect(&mut self, flags: MprotectFlags) -> Result<(), Error> {
        let start = self.pages.start.as_ptr().cast();
        // SAFETY: the pages belong to `self`, and `&mut self` excludes every other access.
        unsafe { rustix::mm::mprotect(start, Self::ROOM, flags) }
            .map_err(|source| Error::Map { len: Self::ROOM, source })
    }
}

/// A page that is absent: each reader of it, including the kernel, waits until the page is present.
#[derive(Debug)]
pub struct Absent {
    /// A page with the bytes in front, followed by the absent page.
    pages: Mapping,
    /// The number of bytes in front.
    before: usize,
    faults: OwnedFd,
}

/// `struct uffdio_api` of Linux.
#[repr(C)]
struct FaultsApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`, and `struct uffdio_zeropage`, which differ in the meaning of the
/// answer.
#[repr(C)]
struct FaultsRange {
    start: u64,
    len: u64,
    mode: u64,
    answer: u64,
}

const FAULTS_API: u32 = 0xc018_aa3f;
const FAULTS_REGISTER: u32 = 0xc020_aa00;
const FAULTS_ZERO_PAGE: u32 = 0xc020_aa04;
const FAULTS_VERSION: u64 = 0xaa;
const FAULTS_MISSING: u64 = 1;
/// Bytes of one fault event.
const FAULT: usize = 32;

impl Absent {
    /// Creates an absent page right after these bytes, which are present.
    pub fn after(bytes: &[u8]) -> Result<Self, Error> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        // SAFETY: the descriptor only affects pages that are registered with it, below.
        let faults = unsafe { rustix::mm::userfaultfd(flags) };
        let faults = faults.map_err(|source| Error::Descriptor { what: "opened", source })?;
        let before = bytes.len();
        if before > PAGE {
            return Err(Error::Outside { offset: before, len: PAGE });
        }
        let absent = Self { pages: Mapping::anonymous(2 * PAGE)?, before, faults };
        // SAFETY: `before` bytes ahead of the second page are in the first, and ours alone.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), absent.start(), before) };
        let mut api = FaultsApi { api: FAULTS_VERSION, features: 0, ioctls: 0 };
        // SAFETY: the argument is the ioctl's own structure.
        let answer = unsafe { ioctl(absent.faults.as_fd(), FAULTS_API, (&raw mut api).cast()) };
        absent.accept(answer)?;
        absent.fault_ioctl(FAULTS_REGISTER, FAULTS_MISSING)?;
        Ok(absent)
    }

    fn fault_ioctl(&self, number: u32, mode: u64) -> Result<(), Error> {
        let start = self.page() as u64;
        let mut range = FaultsRange { start, len: PAGE as u64, mode, answer: 0 };
        // SAFETY: the argument is of the structure's size and layout, and names our own page,
        // which nothing in Rust borrows.
        let answer = unsafe { ioctl(self.faults.as_fd(), number, (&raw mut range).cast()) };
        self.accept(answer)
    }

    fn accept(&self, answer: Answer) -> Result<(), Error> {
        let step = "asking userfaultfd";
        if answer.0 < 0 { Err(Error::Refused { step, answer }) } else { Ok(()) }
    }

    fn page(&self) -> *mut u8 {
        self.pages.start.as_ptr().wrapping_add(PAGE)
    }

    /// Returns the address of the bytes in front of the page.
    fn start(&self) -> *mut u8 {
        self.page().wrapping_sub(self.before)
    }

    /// Waits at most `within` for a thread to wait for the page. Reports each waiting thread once.
    /// Returns true if there is one.
    pub fn is_awaited(&self, within: Duration) -> bool {
        let mut polled = [PollFd::new(&self.faults, PollFlags::IN)];
        let timeout = Timespec::try_from(within).ok();
        let there = rustix::event::poll(&mut polled, timeout.as_ref());
        matches!(there, Ok(1..))
            && matches!(rustix::io::read(&self.faults, &mut [0; FAULT]), Ok(FAULT))
    }

    /// Makes the page present, all zero.
    pub fn bring(&self) -> Result<(), Error> {
        self.fault_ioctl(FAULTS_ZERO_PAGE, 0)
    }

    /// Writes the page's first byte to a file. Returns true on success.
    pub fn write_to(&self, file: BorrowedFd<'_>, offset: u64) -> bool {
        let Ok(offset) = libc::off_t::try_from(offset) else {
            return false;
        };
        let page = self.page().cast();
        // SAFETY: our own page, which the kernel only reads.
        unsafe { libc::pwrite(file.as_raw_fd(), page, 1, offset) == 1 }
    }

    /// Makes `VFIO_DEVICE_SET_IRQS` with the bytes and the page. Returns the answer.
    pub fn set_irqs(&self, device: BorrowedFd<'_>) -> Answer {
        // SAFETY: our own pages, which the kernel only reads.
        unsafe { ioctl(device, DEVICE_SET_IRQS, self.start().cast()) }
    }
}

/// Returns the processor's time stamp; under QEMU's `-icount shift=0`, the number of executed
/// instructions.
#[inline(always)]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and Linux allows it to user space.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}
