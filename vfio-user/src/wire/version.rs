//! Version negotiation.

use super::layout::{put, take};
use super::{DEFAULT_TRANSFER, MAX_FDS};
use serde::{Deserialize, Serialize};
use vfio_irq_engine::Errno;

/// The newest supported version, major and minor.
pub const VERSION: (u16, u16) = (0, 1);

/// Sizes of pages that a mapping can consist of.
const PAGES: u64 = !0xfff;

/// The longest JSON that is looked at.
const LONGEST: usize = 16 << 10;

/// QEMU refuses a larger `max_msg_fds` than its own.
const CAUTIOUS_FDS: u32 = 16;

/// The default of the specification.
const DEFAULT_DMA_MAPS: u32 = 65_535;
const DEFAULT_PAGE_SIZES: u64 = 4096;

/// The payload of `VFIO_USER_VERSION`.
///
/// ```
/// use vfio_irq_user::wire::Request;
///
/// let mut payload = [0_u16.to_ne_bytes(), 9_u16.to_ne_bytes()].concat();
/// payload.extend(br#"{"capabilities": {"max_msg_fds": 8, "of_tomorrow": true}}"#);
/// let proposal = Request::version(&payload)?;
/// // A newer minor version and an unknown capability are accepted.
/// assert_eq!(proposal.minor, 9);
/// assert_eq!(proposal.capabilities()?.max_msg_fds, Some(8));
/// # Ok::<(), vfio_irq_user::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proposal<'a> {
    /// Both sides must have the same.
    pub major: u16,
    /// The smaller of both sides' counts.
    pub minor: u16,
    json: &'a [u8],
}

#[derive(Serialize, Deserialize, Default)]
struct Envelope {
    #[serde(default)]
    capabilities: Capabilities,
}

/// The capabilities of one side: `capabilities` in the JSON of `VFIO_USER_VERSION`, under the names
/// of the specification. Missing ones have defaults.
///
/// ```
/// use vfio_irq_user::wire::Capabilities;
///
/// let ours = Capabilities { write_multiple: Some(true), ..Capabilities::default() };
/// let mut payload = Vec::new();
/// ours.put((0, 1), &mut payload);
/// // Unset capabilities are left out, and a NUL ends the JSON.
/// assert_eq!(&payload[4..], b"{\"capabilities\":{\"write_multiple\":true}}\0");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Descriptors that it can receive in one message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_msg_fds: Option<u64>,
    /// Bytes of data in one message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_data_xfer_size: Option<u64>,
    /// Mappings at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_dma_maps: Option<u64>,
    /// Sizes of pages, or'ed together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgsizes: Option<u64>,
    /// Support for several writes in one message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_multiple: Option<bool>,
    /// A second socket for what the server asks of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin_socket: Option<TwinSocket>,
}

/// A second socket for what the server asks of the client.
///
/// ```
/// use vfio_irq_user::wire::{Capabilities, TwinSocket};
///
/// let twin = TwinSocket { supported: true, fd_index: None };
/// let offer = Capabilities { twin_socket: Some(twin), ..Capabilities::default() };
/// assert!(offer.wants_twin());
/// // This crate's servers use one socket for both ways.
/// assert_eq!(Capabilities::ours(4096, 16).answer(&offer).twin_socket, None);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TwinSocket {
    /// The sender supports a second socket.
    #[serde(default)]
    pub supported: bool,
    /// Which of the descriptors beside the reply it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd_index: Option<u64>,
}

/// The negotiated limits of a connection.
///
/// ```
/// use vfio_irq_user::wire::Capabilities;
///
/// // A peer that says nothing takes one descriptor and 1 MiB a message.
/// let limits = Capabilities::default().limits(1);
/// assert_eq!((limits.minor, limits.peer_fds, limits.peer_transfer), (1, 1, 1 << 20));
/// // Nor may a message have many writes.
/// assert_eq!((limits.peer_dma_maps, limits.peer_write_multiple), (65_535, false));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The minor version of both.
    pub minor: u16,
    /// Descriptors that the peer can receive in one message.
    pub peer_fds: usize,
    /// Bytes of data that the peer takes in one message.
    pub peer_transfer: u32,
    /// Mappings that the peer has at one time.
    pub peer_dma_maps: u32,
    /// Sizes of pages that the peer's mappings consist of, or'ed together.
    pub peer_page_sizes: u64,
    /// The peer supports `VFIO_USER_REGION_WRITE_MULTI`.
    pub peer_write_multiple: bool,
}

impl Limits {
    /// Returns the smallest page size of the peer's mappings.
    pub fn smallest_page(&self) -> u64 {
        1_u64.checked_shl(self.peer_page_sizes.trailing_zeros()).unwrap_or(DEFAULT_PAGE_SIZES)
    }
}

impl<'a> Proposal<'a> {
    pub(super) fn parse(mut rest: &'a [u8]) -> Result<Self, Errno> {
        let [major, minor] = take(&mut rest)?;
        // The end of the text is the first NUL, or the end of the message where there is none.
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let json = rest.get(..end).unwrap_or_default();
        if json.len() > LONGEST {
            return Err(Errno::EINVAL);
        }
        Ok(Self { major, minor, json })
    }

    /// Returns the capabilities, or the defaults if the message has no JSON.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if the JSON is not UTF-8, not valid, or has wrong types. Unknown names are
    /// ignored.
    pub fn capabilities(&self) -> Result<Capabilities, Errno> {
        if self.json.is_empty() {
            return Ok(Capabilities::default());
        }
        let envelope: Envelope = serde_json::from_slice(self.json).map_err(|_| Errno::EINVAL)?;
        Ok(envelope.capabilities)
    }
}

impl Capabilities {
    /// Returns the capabilities of this server.
    pub fn ours(transfer: u32, dma_maps: u32) -> Self {
        Self {
            max_msg_fds: Some(MAX_FDS as u64),
            max_data_xfer_size: Some(transfer.into()),
            max_dma_maps: Some(dma_maps.into()),
            pgsizes: Some(4096),
            write_multiple: Some(true),
            twin_socket: None,
        }
    }

    /// Returns a server's answer to the offer of a client. The answer has only capabilities that
    /// the client proposed, and no larger `max_msg_fds`. Mappings of all page sizes from 4 KiB are
    /// allowed.
    pub fn answer(&self, offer: &Self) -> Self {
        let max_fds = |ours: u64, theirs: u64| ours.min(theirs.max(CAUTIOUS_FDS.into()));
        Self {
            max_msg_fds: both(self.max_msg_fds, offer.max_msg_fds, max_fds),
            max_data_xfer_size: self
                .max_data_xfer_size
                .filter(|_| offer.max_data_xfer_size.is_some()),
            max_dma_maps: both(self.max_dma_maps, offer.max_dma_maps, u64::min),
            pgsizes: offer.pgsizes.map(|theirs| theirs & PAGES),
            write_multiple: both(self.write_multiple, offer.write_multiple, |a, b| a && b),
            twin_socket: None,
        }
    }

    /// Checks that the sender can map pages of at least 4 KiB.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if it cannot.
    ///
    /// ```
    /// use vfio_irq_user::{Errno, wire::Capabilities};
    ///
    /// let none = Capabilities { pgsizes: Some(512), ..Capabilities::default() };
    /// assert_eq!(none.check(), Err(Errno::EINVAL));
    /// assert_eq!(Capabilities::default().check(), Ok(()));
    /// ```
    pub fn check(&self) -> Result<(), Errno> {
        let pages = self.pgsizes.unwrap_or(DEFAULT_PAGE_SIZES) & PAGES;
        if pages != 0 { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Returns the limits of the sender.
    pub fn limits(&self, minor: u16) -> Limits {
        let fds = self.max_msg_fds.unwrap_or(1);
        let transfer = self.max_data_xfer_size.unwrap_or(DEFAULT_TRANSFER.into());
        let dma_maps = self.max_dma_maps.unwrap_or(DEFAULT_DMA_MAPS.into());
        Limits {
            minor,
            peer_fds: usize::try_from(fds).unwrap_or(MAX_FDS).min(MAX_FDS),
            peer_transfer: u32::try_from(transfer).unwrap_or(u32::MAX),
            peer_dma_maps: u32::try_from(dma_maps).unwrap_or(u32::MAX),
            peer_page_sizes: self.pgsizes.unwrap_or(DEFAULT_PAGE_SIZES) & PAGES,
            peer_write_multiple: self.write_multiple == Some(true),
        }
    }

    /// Returns true if the sender supports a second socket.
    pub fn wants_twin(&self) -> bool {
        self.twin_socket.as_ref().is_some_and(|twin| twin.supported)
    }

    /// Appends the payload of a VERSION message.
    ///
    /// ```
    /// use vfio_irq_user::wire::{Capabilities, Command, Reply, Request, VERSION};
    ///
    /// let mut message = Reply::default();
    /// Capabilities::ours(1 << 20, 1024).put(VERSION, message.begin());
    /// message.ask(1, Command::Version);
    /// let proposal = Request::version(&message.bytes()[16..])?;
    /// assert_eq!(proposal.capabilities()?.max_dma_maps, Some(1024));
    /// # Ok::<(), vfio_irq_user::Errno>(())
    /// ```
    pub fn put(&self, (major, minor): (u16, u16), out: &mut Vec<u8>) {
        put(out, &[major, minor]);
        let envelope = Envelope { capabilities: self.clone() };
        // Numbers and booleans under fixed names: there is nothing that could not be written.
        out.extend_from_slice(&serde_json::to_vec(&envelope).unwrap_or_default());
        out.push(0);
    }
}

fn both<T>(ours: Option<T>, theirs: Option<T>, join: impl FnOnce(T, T) -> T) -> Option<T> {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => Some(join(ours, theirs)),
        _ => None,
    }
}
