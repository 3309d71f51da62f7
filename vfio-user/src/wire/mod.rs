//! Messages as bytes, in two levels and without I/O.
//!
//! A [`Packet`] is tolerant: a header, of which only the size is checked, and the payload.
//! [`Request::check`] makes a strict request of a packet: it cannot represent a wrong size, a wrong
//! count or an unexpected descriptor. Neither allocates.
//!
//! All fields are in host byte order: both peers run on the same host.
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
pub(crate) mod layout;
mod packet;
mod reply;
mod request;
mod version;

pub use decoder::{Decoder, Frame};
pub use layout::Access;
pub use packet::{Command, Header, Packet, flags};
pub use reply::{Area, RegionInfo, Reply, SubRegion};
pub use request::{DmaMap, DmaUnmap, Request, SetIrqs, Write, Writes};
pub use version::{Capabilities, Limits, Proposal, TwinSocket, VERSION};

/// The limit of descriptors per message (SCM_MAX_FD).
pub const MAX_FDS: usize = 253;

/// The default limit of data bytes per message.
pub const DEFAULT_TRANSFER: u32 = 1 << 20;
