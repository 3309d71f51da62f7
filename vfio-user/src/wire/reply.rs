//! Outgoing messages, in a reused buffer.

use super::layout::{self, len32, put};
use super::packet::{Command, Header};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use vfio_irq_engine::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An outgoing message with its descriptors.
///
/// ```
/// use vfio_irq_user::wire::{Command, Header, Reply};
///
/// let command = Header::command(1, Command::DeviceGetInfo, 16);
/// let mut reply = Reply::default(); // Kept from one message to the next.
/// reply.begin().extend([0; 16]);
/// reply.answer(&command);
/// assert_eq!(reply.bytes().len(), 32);
/// ```
#[derive(Debug, Default)]
pub struct Reply {
    bytes: Vec<u8>,
    fds: Vec<Arc<OwnedFd>>,
}

impl Reply {
    /// Begins a message. Returns the buffer for the payload.
    pub fn begin(&mut self) -> &mut Vec<u8> {
        self.clear();
        self.bytes.resize(Header::LEN, 0);
        &mut self.bytes
    }

    /// Clears the message.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fds.clear();
    }

    /// Adds a descriptor. Returns its index in the message.
    pub fn attach(&mut self, fd: Arc<OwnedFd>) -> usize {
        self.fds.push(fd);
        self.fds.len() - 1
    }

    /// Completes the message as the reply to `command`.
    pub fn answer(&mut self, command: &Header) {
        let header = command.reply(self.bytes.len().saturating_sub(Header::LEN));
        self.set_header(header);
    }

    /// Completes the message as a command.
    pub fn ask(&mut self, id: u16, command: Command) {
        self.ask_with(id, command, 0);
    }

    /// Completes the message as a command with these flags.
    pub fn ask_with(&mut self, id: u16, command: Command, flags: u32) {
        let payload = self.bytes.len().saturating_sub(Header::LEN);
        self.set_header(Header { flags, ..Header::command(id, command, payload) });
    }

    /// Drops the payload, and refuses `command`.
    pub fn refuse(&mut self, command: &Header, errno: Errno) {
        self.begin();
        self.set_header(command.refusal(errno));
    }

    fn set_header(&mut self, header: Header) {
        if let Some(head) = self.bytes.first_chunk_mut() {
            *head = header.to_bytes();
        }
    }

    /// Returns the bytes of the message, which may be empty.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the descriptors.
    pub fn fds(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.fds.iter().map(|fd| fd.as_fd())
    }
}

/// A mappable area of a region: `struct vfio_region_sparse_mmap_area`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Area {
    /// First byte, from the start of the region.
    pub offset: u64,
    /// The size in bytes.
    pub size: u64,
}

/// The reply to `VFIO_USER_DEVICE_GET_REGION_INFO`: `struct vfio_region_info`.
///
/// ```
/// use vfio_irq_user::wire::{Area, RegionInfo};
///
/// let areas = [Area { offset: 0x1000, size: 0x1000 }];
/// let flags = RegionInfo::READ | RegionInfo::WRITE | RegionInfo::MMAP;
/// let info = RegionInfo { index: 0, flags, size: 0x4000, offset: 0, areas: &areas };
/// let mut payload = Vec::new();
/// info.put(4096, &mut payload);
/// // The list of areas is a capability behind the structure.
/// assert_eq!(payload.len(), RegionInfo::LEN as usize + 16 + 16);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RegionInfo<'a> {
    /// The region index.
    pub index: u32,
    /// `RegionInfo::READ` and the others.
    pub flags: u32,
    /// Bytes of the region.
    pub size: u64,
    /// The offset of the region in the file.
    pub offset: u64,
    /// The mappable areas, if not the whole region.
    pub areas: &'a [Area],
}

impl RegionInfo<'_> {
    /// The client may read it.
    pub const READ: u32 = 1;
    /// The client may write it.
    pub const WRITE: u32 = 2;
    /// The client may map it.
    pub const MMAP: u32 = 4;
    /// Capabilities follow.
    pub const CAPS: u32 = 8;
    /// Bytes before the capabilities.
    pub const LEN: u32 = 32;
    /// The capability that lists areas.
    pub const SPARSE_MMAP: u16 = 1;

    /// Appends the payload. If the client's `argsz` is too small, leaves the areas out and reports
    /// the required size.
    ///
    /// ```
    /// use vfio_irq_user::wire::{Area, RegionInfo};
    ///
    /// let areas = [Area { offset: 0, size: 0x1000 }; 2];
    /// let info = RegionInfo { areas: &areas, ..RegionInfo::default() };
    /// let mut short = Vec::new();
    /// info.put(32, &mut short);
    /// // No room for the areas: the first word says how much it takes, and the client asks again.
    /// assert_eq!((short.len(), &short[..4]), (32, &80_u32.to_ne_bytes()[..]));
    /// ```
    pub fn put(&self, room: u32, out: &mut Vec<u8>) {
        let caps = if self.areas.is_empty() { 0 } else { 16 + 16 * len32(self.areas.len()) };
        let needed = Self::LEN + caps;
        let listed = caps > 0 && room >= needed;
        let head = layout::RegionInfo {
            argsz: needed,
            flags: self.flags | if listed { Self::CAPS } else { 0 },
            index: self.index,
            cap_offset: if listed { Self::LEN } else { 0 },
            size: self.size,
            offset: self.offset,
        };
        put(out, &head);
        if listed {
            put(out, &layout::Capability { id: Self::SPARSE_MMAP, version: 1, next: 0 });
            put(out, &[len32(self.areas.len()), 0]);
            self.areas.iter().for_each(|area| put(out, area));
        }
    }
}

/// A sub-region in the reply to `VFIO_USER_DEVICE_GET_REGION_IO_FDS`: `struct
/// vfio_user_sub_region_ioeventfd`, whose writes signal an eventfd.
///
/// ```
/// use vfio_irq_user::wire::SubRegion;
///
/// // Two doorbells that share the first descriptor of the reply.
/// let bell = SubRegion { offset: 0x1000, size: 4, ..SubRegion::default() };
/// let bells = [bell, SubRegion { offset: 0x1004, ..bell }];
/// let mut payload = Vec::new();
/// assert!(SubRegion::put_all(0, &bells, 4096, &mut payload));
/// assert_eq!(payload.len(), (SubRegion::HEAD + 2 * SubRegion::LEN) as usize);
/// ```
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SubRegion {
    /// First byte, from the start of the region.
    pub offset: u64,
    /// The size of a write; 0 matches any size.
    pub size: u64,
    /// The index of the descriptor in the message.
    pub fd_index: u32,
    /// [`SubRegion::IOEVENTFD`].
    pub kind: u32,
    /// [`SubRegion::DATAMATCH`] and [`SubRegion::PIO`].
    pub flags: u32,
    /// Not used.
    pub padding: u32,
    /// The matching value, with [`SubRegion::DATAMATCH`].
    pub datamatch: u64,
}

impl SubRegion {
    /// Bytes before the sub-regions.
    pub const HEAD: u32 = 16;
    /// Bytes of one sub-region.
    pub const LEN: u32 = 40;
    /// The descriptor is an eventfd.
    pub const IOEVENTFD: u32 = 0;
    /// `KVM_IOEVENTFD_FLAG_DATAMATCH`: the written value matters.
    pub const DATAMATCH: u32 = 1;
    /// `KVM_IOEVENTFD_FLAG_PIO`: the region is of I/O ports.
    pub const PIO: u32 = 2;

    /// Appends the payload of the reply to GET_REGION_IO_FDS. If the client's `argsz` is too small,
    /// leaves the sub-regions out and reports the required size.
    ///
    /// Returns true if the sub-regions are in the payload. The caller must then attach their
    /// descriptors.
    pub fn put_all(index: u32, all: &[Self], room: u32, out: &mut Vec<u8>) -> bool {
        let needed = Self::HEAD + Self::LEN * len32(all.len());
        let listed = room >= needed;
        put(out, &[needed, 0, index, len32(all.len())]);
        all.iter().filter(|_| listed).for_each(|sub_region| put(out, sub_region));
        listed
    }
}
