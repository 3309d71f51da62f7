//! The first level: a header and a payload, unchecked.

use super::layout::len32;
use vfio_irq_engine::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// Flags of a header.
pub mod flags {
    /// The bits that tell a command from a reply.
    pub const TYPE: u32 = 0xf;
    /// A command.
    pub const COMMAND: u32 = 0;
    /// A reply.
    pub const REPLY: u32 = 1;
    /// The sender of the command wants no reply, not even of an error.
    pub const NO_REPLY: u32 = 0x10;
    /// The reply is of an error: its number is in the header and nothing follows.
    pub const ERROR: u32 = 0x20;
}

/// The commands of the specification, `VFIO_USER_VERSION` (1) to `VFIO_USER_MIG_DATA_WRITE` (18).
///
/// ```
/// use vfio_irq_user::wire::Command;
///
/// assert_eq!(Command::from_raw(8), Some(Command::DeviceSetIrqs));
/// assert_eq!(Command::RegionWriteMulti.raw(), 15);
/// // 14 was VFIO_USER_DIRTY_PAGES, which was removed.
/// assert_eq!(Command::from_raw(14), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TryFromBytes)]
#[repr(u16)]
pub enum Command {
    /// Version and capabilities; the first message.
    Version = 1,
    /// Maps memory of the client for the device.
    DmaMap = 2,
    /// Unmaps memory of the device.
    DmaUnmap = 3,
    /// The kind of device.
    DeviceGetInfo = 4,
    /// One of its regions.
    DeviceGetRegionInfo = 5,
    /// Descriptors that stand for accesses to a region.
    DeviceGetRegionIoFds = 6,
    /// The capabilities of an interrupt index.
    DeviceGetIrqInfo = 7,
    /// Attach, detach, mask, unmask, loopback.
    DeviceSetIrqs = 8,
    /// Reads a region.
    RegionRead = 9,
    /// Writes a region.
    RegionWrite = 10,
    /// The device reads the client's memory: server to client.
    DmaRead = 11,
    /// The device writes the client's memory: server to client.
    DmaWrite = 12,
    /// Resets the device.
    DeviceReset = 13,
    /// Many small writes in one message.
    RegionWriteMulti = 15,
    /// Features of migration, of which this crate has none.
    DeviceFeature = 16,
    /// State of a device that is to move, likewise.
    MigDataRead = 17,
    /// State of a device that has moved, likewise.
    MigDataWrite = 18,
}

impl Command {
    /// Returns the command with this number, if it exists.
    pub fn from_raw(raw: u16) -> Option<Self> {
        zerocopy::try_transmute!(raw).ok()
    }

    /// Returns the number.
    pub const fn raw(self) -> u16 {
        self as u16
    }
}

/// The 16 bytes at the start of every message: message ID, command, size, flags and error.
///
/// ```
/// use vfio_irq_user::wire::{Command, Header};
///
/// let header = Header::command(0x0102, Command::RegionRead, 16);
/// assert_eq!((header.size, Header::LEN), (32, 16));
/// // `id`, `command`, `size`, `flags`, `error`, in the order of the machine's bytes.
/// assert_eq!(header.to_bytes()[..2], 0x0102_u16.to_ne_bytes());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// The message ID: chosen by the sender of the command, repeated in the reply.
    pub id: u16,
    /// The command number, unchecked.
    pub command: u16,
    /// The size of the whole message, including the header.
    pub size: u32,
    /// [`flags`].
    pub flags: u32,
    /// The error number of an error reply.
    pub error: u32,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 16;

    /// Returns the header of a command with a payload of this length.
    pub fn command(id: u16, command: Command, payload: usize) -> Self {
        let size = len32(payload.saturating_add(Self::LEN));
        Self { id, command: command.raw(), size, flags: flags::COMMAND, error: 0 }
    }

    /// Returns the header of the reply to this command, with a payload of this length.
    pub fn reply(&self, payload: usize) -> Self {
        let size = len32(payload.saturating_add(Self::LEN));
        Self { id: self.id, command: self.command, size, flags: flags::REPLY, error: 0 }
    }

    /// Returns the header of an error reply to this command. It has no payload.
    pub fn refusal(&self, errno: Errno) -> Self {
        Self {
            flags: flags::REPLY | flags::ERROR,
            error: errno.raw().unsigned_abs(),
            ..self.reply(0)
        }
    }

    /// Returns true if it is a reply.
    pub const fn is_reply(&self) -> bool {
        self.flags & flags::TYPE == flags::REPLY
    }

    /// Returns true if it is a command.
    pub const fn is_command(&self) -> bool {
        self.flags & flags::TYPE == flags::COMMAND
    }

    /// Returns true if the sender wants a reply.
    pub const fn wants_reply(&self) -> bool {
        self.flags & flags::NO_REPLY == 0
    }

    /// Returns the errno of an error reply. If the errno field is 0, returns `EINVAL`.
    pub fn errno(&self) -> Option<Errno> {
        let number = i32::try_from(self.error).unwrap_or(0);
        (self.flags & flags::ERROR != 0).then(|| Errno::from_raw(number))
    }

    /// Decodes a header.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        zerocopy::transmute!(*bytes)
    }

    /// Encodes the header.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        zerocopy::transmute!(*self)
    }
}

/// A header and a payload of the size in the header. Both are unchecked.
///
/// ```
/// use vfio_irq_user::wire::{Command, Header, Packet};
///
/// let mut bytes = Header::command(1, Command::RegionRead, 4).to_bytes().to_vec();
/// bytes.extend([1, 2, 3, 4, 99]); // The last one is the next message's.
/// let packet = Packet::split(&bytes)?.expect("all there");
/// assert_eq!(packet.payload(), [1, 2, 3, 4]);
/// # Ok::<(), vfio_irq_user::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    header: Header,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Returns the first message in `bytes`, or `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if the size is below that of a header. The position in the stream is then
    /// lost.
    ///
    /// ```
    /// use vfio_irq_user::wire::{Command, Header, Packet};
    ///
    /// let bytes = Header::command(1, Command::RegionRead, 4).to_bytes();
    /// assert_eq!(Packet::split(&bytes[..8]), Ok(None), "half a header");
    /// assert_eq!(Packet::split(&bytes), Ok(None), "no payload yet");
    /// assert!(Packet::split(&[0; 16]).is_err(), "a size of 0 is below a header's own");
    /// ```
    pub fn split(bytes: &'a [u8]) -> Result<Option<Self>, Errno> {
        let Some((head, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let header = Header::from_bytes(head);
        let payload = (header.size as usize).checked_sub(Header::LEN).ok_or(Errno::EINVAL)?;
        Ok(rest.get(..payload).map(|payload| Self { header, payload }))
    }

    /// Returns the header.
    pub const fn header(&self) -> Header {
        self.header
    }

    /// Returns the payload.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Returns the size of the whole message.
    pub const fn len(&self) -> usize {
        Header::LEN + self.payload.len()
    }

    /// Returns false: a message has a header.
    pub const fn is_empty(&self) -> bool {
        false
    }
}
