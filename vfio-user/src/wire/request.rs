//! The second level: checked requests of a client.

use super::layout::{self, Access, PaddedWrite, take};
use super::packet::{Command, Packet};
use super::reply::{RegionInfo, SubRegion};
use super::version::Proposal;
use crate::errno;
use vfio_irq_engine::Errno;
use vfio_irq_engine::abi::{self, InfoHeader};

/// A well-formed command of a client. The session checks it against the device.
///
/// ```
/// use vfio_irq_user::wire::{Command, Header, Packet, Request};
///
/// let mut bytes = Header::command(1, Command::DeviceGetIrqInfo, 16).to_bytes().to_vec();
/// bytes.extend([16_u32, 0, 2, 0].iter().flat_map(|word| word.to_ne_bytes()));
/// let packet = Packet::split(&bytes)?.expect("all there");
/// let Request::IrqInfo(asked) = Request::check(packet, 0)? else { panic!("something else") };
/// assert_eq!(asked.index, 2, "MSI-X");
/// # Ok::<(), vfio_irq_user::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// Version and capabilities.
    Version(Proposal<'a>),
    /// Maps memory for the device.
    DmaMap(DmaMap),
    /// Unmaps memory of the device.
    DmaUnmap(DmaUnmap),
    /// The kind of device.
    DeviceInfo,
    /// A region.
    RegionInfo {
        /// The `argsz` of the client.
        argsz: u32,
        /// The region index.
        index: u32,
    },
    /// Descriptors that stand for accesses to a region.
    RegionIoFds {
        /// The `argsz` of the client.
        argsz: u32,
        /// The region index.
        index: u32,
    },
    /// The capabilities of an interrupt index.
    IrqInfo(InfoHeader),
    /// Interrupts.
    SetIrqs(SetIrqs<'a>),
    /// Reads a region.
    RegionRead(Access),
    /// Writes a region.
    RegionWrite(Access, &'a [u8]),
    /// Many small writes.
    RegionWriteMulti(Writes<'a>),
    /// Resets the device.
    Reset,
}

/// `VFIO_USER_DMA_MAP`. Addresses, offsets and sizes are in bytes.
///
/// ```
/// # use vfio_irq_user::wire::{Command, DmaMap, Packet, Reply, Request};
/// let mut message = Reply::default();
/// let payload = message.begin();
/// [32_u32, 1].iter().for_each(|word| payload.extend(word.to_ne_bytes())); // read only
/// [0_u64, 0x8000, 0x1000].iter().for_each(|long| payload.extend(long.to_ne_bytes()));
/// message.ask(1, Command::DmaMap);
/// let packet = Packet::split(message.bytes())?.expect("all there");
/// let Request::DmaMap(map) = Request::check(packet, 0)? else { panic!("something else") };
/// assert_eq!((map.address, map.writable, map.shared), (0x8000, false, false));
/// # Ok::<(), vfio_irq_user::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DmaMap {
    /// The device may read it.
    pub readable: bool,
    /// The device may write it.
    pub writable: bool,
    /// The offset in the file, if there is a descriptor.
    pub offset: u64,
    /// The device address.
    pub address: u64,
    /// The size; the end is within 64 bits.
    pub size: u64,
    /// True if a descriptor came with the message.
    pub shared: bool,
}

/// `VFIO_USER_DMA_UNMAP`: the range of one [`DmaMap`].
///
/// ```
/// # use vfio_irq_user::wire::{Command, DmaUnmap, Packet, Reply, Request};
/// let mut message = Reply::default();
/// let payload = message.begin();
/// [24_u32, 2].iter().for_each(|word| payload.extend(word.to_ne_bytes()));
/// payload.extend([0; 16]); // No address and no size: flag 2 is everything.
/// message.ask(1, Command::DmaUnmap);
/// let packet = Packet::split(message.bytes())?.expect("all there");
/// let Request::DmaUnmap(unmap) = Request::check(packet, 0)? else { panic!("something else") };
/// assert!(unmap.all);
/// # Ok::<(), vfio_irq_user::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DmaUnmap {
    /// The `argsz` of the client, which the reply repeats.
    pub argsz: u32,
    /// The device address.
    pub address: u64,
    /// The size in bytes.
    pub size: u64,
    /// All mappings, whatever the address.
    pub all: bool,
}

/// `VFIO_USER_DEVICE_SET_IRQS`, unchecked: the engine checks the header (`CONTRACT.md`, C-01 to
/// C-10).
///
/// Descriptors are ancillary data. With DATA_EVENTFD there is one per vector, or none, which
/// detaches all vectors. One message cannot do both.
///
/// ```
/// # use vfio_irq_user::{abi::{Header, flags}, wire::{Command, Packet, Reply, Request, SetIrqs}};
/// let words = [20, flags::DATA_EVENTFD | flags::ACTION_TRIGGER, 2, 4, 8];
/// let mut message = Reply::default();
/// message.begin().extend(Header::from_words(words).to_bytes());
/// message.ask(1, Command::DeviceSetIrqs);
/// let packet = Packet::split(message.bytes())?.expect("all there");
/// // Eight vectors: eight descriptors attach them, none detaches them, and seven are an error.
/// assert!(matches!(Request::check(packet, 8)?, Request::SetIrqs(SetIrqs { fds: 8, .. })));
/// assert!(matches!(Request::check(packet, 0)?, Request::SetIrqs(SetIrqs { fds: 0, .. })));
/// assert!(Request::check(packet, 7).is_err());
/// # Ok::<(), vfio_irq_user::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetIrqs<'a> {
    /// The structure, with `argsz` as if descriptors were inside.
    pub header: abi::Header,
    /// A byte for each vector, with DATA_BOOL.
    pub bools: &'a [u8],
    /// The number of descriptors.
    pub fds: usize,
}

/// The writes of a `VFIO_USER_REGION_WRITE_MULTI`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Writes<'a>(&'a [u8]);

/// One write of a `VFIO_USER_REGION_WRITE_MULTI`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write<'a> {
    /// The destination.
    pub access: Access,
    /// Eight bytes at most.
    pub data: &'a [u8],
}

impl<'a> Writes<'a> {
    /// Bytes that one write takes in the message.
    pub const STRIDE: usize = size_of::<PaddedWrite>();

    /// Returns the number of writes.
    pub const fn len(&self) -> usize {
        self.0.len() / Self::STRIDE
    }

    /// Returns true if there are no writes.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the writes in order.
    pub fn iter(&self) -> impl Iterator<Item = Write<'a>> + use<'a> {
        self.0.chunks_exact(Self::STRIDE).filter_map(|chunk| Self::parse(chunk).ok())
    }

    fn check(count: u64, bytes: &'a [u8]) -> Result<Self, Errno> {
        let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
        if count.checked_mul(Self::STRIDE) != Some(bytes.len()) {
            return Err(Errno::EINVAL);
        }
        bytes.chunks_exact(Self::STRIDE).try_for_each(|chunk| Self::parse(chunk).map(drop))?;
        Ok(Self(bytes))
    }

    fn parse(mut chunk: &'a [u8]) -> Result<Write<'a>, Errno> {
        let access = Access::parse(&mut chunk)?;
        let data = chunk.get(..access.count as usize).ok_or(Errno::EINVAL)?;
        Ok(Write { access, data })
    }
}

impl<'a> Request<'a> {
    /// Checks a packet as far as possible without the device. `fds` is the number of descriptors.
    /// Returns the request.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if the size or a count is wrong, a range exceeds 64 bits, or descriptors
    /// are not allowed. Returns `EOPNOTSUPP` for a command that is unknown, or that only a server
    /// sends.
    ///
    /// ```
    /// use vfio_irq_user::{Errno, errno, wire::{Command, Header, Packet, Request}};
    ///
    /// let reset = Header::command(1, Command::DeviceReset, 0).to_bytes();
    /// let packet = Packet::split(&reset)?.expect("all there");
    /// assert_eq!(Request::check(packet, 0), Ok(Request::Reset));
    /// assert_eq!(Request::check(packet, 1), Err(Errno::EINVAL), "no descriptor belongs to it");
    /// let unknown = Header { command: 14, ..Header::from_bytes(&reset) }.to_bytes();
    /// let packet = Packet::split(&unknown)?.expect("all there");
    /// assert_eq!(Request::check(packet, 0), Err(errno::EOPNOTSUPP));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn check(packet: Packet<'a>, fds: usize) -> Result<Self, Errno> {
        let command = Command::from_raw(packet.header().command).ok_or(errno::EOPNOTSUPP)?;
        let allowed = match command {
            Command::DmaMap => 1,
            Command::DeviceSetIrqs => super::MAX_FDS,
            _ => 0,
        };
        if fds > allowed {
            return Err(Errno::EINVAL);
        }
        // Bytes after a request belong to a later minor version and are ignored, unless they are
        // data.
        let mut payload = packet.payload();
        Ok(match command {
            Command::Version => Self::Version(Proposal::parse(payload)?),
            Command::DmaMap => Self::DmaMap(DmaMap::parse(&mut payload, fds)?),
            Command::DmaUnmap => Self::DmaUnmap(DmaUnmap::parse(&mut payload)?),
            Command::DeviceGetInfo => {
                let [argsz, _flags, _regions, _irqs] = take(&mut payload)?;
                has_room(argsz, 16)?;
                Self::DeviceInfo
            }
            Command::DeviceGetRegionInfo => {
                let layout::RegionInfo { argsz, index, .. } = take(&mut payload)?;
                has_room(argsz, RegionInfo::LEN)?;
                Self::RegionInfo { argsz, index }
            }
            Command::DeviceGetRegionIoFds => {
                let [argsz, flags, index, _count] = take(&mut payload)?;
                has_room(argsz, SubRegion::HEAD)?;
                if flags != 0 {
                    return Err(Errno::EINVAL);
                }
                Self::RegionIoFds { argsz, index }
            }
            Command::DeviceGetIrqInfo => {
                let [argsz, flags, index, count] = take(&mut payload)?;
                Self::IrqInfo(InfoHeader { argsz, flags, index, count })
            }
            Command::DeviceSetIrqs => Self::SetIrqs(SetIrqs::parse(payload, fds)?),
            Command::RegionRead => Self::RegionRead(Access::parse(&mut payload)?),
            Command::RegionWrite => {
                let access = Access::parse(&mut payload)?;
                if payload.len() != access.count as usize {
                    return Err(Errno::EINVAL);
                }
                Self::RegionWrite(access, payload)
            }
            Command::RegionWriteMulti => {
                let count = take(&mut payload)?;
                Self::RegionWriteMulti(Writes::check(count, payload)?)
            }
            Command::DeviceReset => Self::Reset,
            Command::DmaRead
            | Command::DmaWrite
            | Command::DeviceFeature
            | Command::MigDataRead
            | Command::MigDataWrite => return Err(errno::EOPNOTSUPP),
        })
    }
}

impl Request<'_> {
    /// Decodes the payload of a VERSION message of either side.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if it is too short or far too long.
    pub fn version(payload: &[u8]) -> Result<Proposal<'_>, Errno> {
        Proposal::parse(payload)
    }
}

/// Returns `EINVAL` if the client has less room than the fixed part of a reply.
fn has_room(argsz: u32, fixed: u32) -> Result<(), Errno> {
    if argsz < fixed { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Returns true if a range of this size starts at the address. The range may end at 2^64.
fn ends(address: u64, size: u64) -> bool {
    size.checked_sub(1).and_then(|more| address.checked_add(more)).is_some()
}

impl DmaMap {
    /// Returns the address of the last byte.
    pub(crate) fn last(&self) -> u64 {
        self.address.saturating_add(self.size.saturating_sub(1))
    }

    fn parse(payload: &mut &[u8], fds: usize) -> Result<Self, Errno> {
        let layout::DmaMap { argsz, flags, offset, address, size } = take(payload)?;
        // Without a descriptor there is nothing that the offset is in.
        let in_file = fds == 0 || offset.checked_add(size).is_some();
        let known = layout::DmaMap::READ | layout::DmaMap::WRITE;
        if argsz < 32 || flags & !known != 0 || !ends(address, size) || !in_file {
            return Err(Errno::EINVAL);
        }
        Ok(Self {
            readable: flags & layout::DmaMap::READ != 0,
            writable: flags & layout::DmaMap::WRITE != 0,
            offset,
            address,
            size,
            shared: fds == 1,
        })
    }
}

impl DmaUnmap {
    fn parse(payload: &mut &[u8]) -> Result<Self, Errno> {
        let layout::DmaUnmap { argsz, flags, address, size } = take(payload)?;
        let all = flags == layout::DmaUnmap::ALL;
        if argsz < 24 || (flags != 0 && !all) || (all && (address != 0 || size != 0)) {
            return Err(Errno::EINVAL);
        }
        if !all && !ends(address, size) {
            return Err(Errno::EINVAL);
        }
        Ok(Self { argsz, address, size, all })
    }
}

impl<'a> SetIrqs<'a> {
    fn parse(mut data: &'a [u8], fds: usize) -> Result<Self, Errno> {
        let mut header = abi::Header::from_words(take(&mut data)?);
        let eventfds = header.flags & abi::flags::DATA_EVENTFD != 0;
        let bools = header.flags & abi::flags::DATA_BOOL != 0;
        let claimed = if bools { header.count as usize } else { 0 };
        if data.len() != claimed || (fds > 0 && (!eventfds || fds != header.count as usize)) {
            return Err(Errno::EINVAL);
        }
        if eventfds && header.argsz as usize >= abi::Header::LEN {
            // The engine expects descriptors inside the structure, so `argsz` includes them.
            header.argsz = header.count.saturating_mul(4).saturating_add(20);
        }
        Ok(Self { header, bools: data, fds })
    }
}
