//! Messages as bytes, in two levels and without I/O.
//!
//! A [`Packet`] is tolerant: sixteen bytes of header, believed in nothing but its size, and what
//! follows. [`Request::check`] makes of a packet a message in which a bad size, a bad count or a
//! descriptor that does not belong cannot be written down. Neither allocates.
//!
//! All fields are in the byte order of the machine: both ends of the socket are on it.
//!
//! ```
//! use vfio_irq_user::wire::{Command, Header, Packet, Request};
//!
//! let mut bytes = Header::command(7, Command::DeviceReset, 0).to_bytes().to_vec();
//! let packet = Packet::split(&bytes)?.expect("a whole message");
//! assert_eq!(Request::check(packet, 0)?, Request::Reset);
//!
//! bytes.truncate(15);
//! assert!(Packet::split(&bytes)?.is_none(), "a header is sixteen bytes");
//! # Ok::<(), vfio_irq_user::Errno>(())
//! ```

mod decoder;
mod fields;
mod packet;
mod reply;
mod request;
mod version;

pub use decoder::{Decoder, Frame};
pub use packet::{Command, Header, Packet, flags};
pub use reply::{Area, IoSpan, RegionInfo, Reply};
pub use request::{Access, DmaMap, DmaUnmap, Request, SetIrqs, Write, Writes};
pub use version::{Capabilities, Limits, Proposal, TwinSocket, VERSION};

/// Descriptors that one message can carry: the kernel's own limit.
pub const MAX_FDS: usize = 253;

/// Bytes that one access may move unless something else was agreed on.
pub const DEFAULT_TRANSFER: u32 = 1 << 20;
