//! What a session lets its client do.

use crate::wire::{Capabilities, DEFAULT_TRANSFER};

/// What a session grants its client.
///
/// ```
/// use vfio_irq_user::{Endpoint, Grants, Session};
/// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
/// # let mut endpoint = Endpoint::new(function, make);
/// // A client that may map eight pieces of memory, and move a page with one message.
/// let grants = Grants { transfer: 4096, dma_maps: 8 };
/// let session = Session::new(&mut endpoint, grants);
/// // The client is told when it asks for a version; until then nothing is agreed on.
/// assert!(session.limits().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Grants {
    /// Bytes of data in one message.
    pub transfer: u32,
    /// Mappings at one time.
    pub dma_maps: u32,
}

impl Grants {
    /// What a client may do that was told this. Of what it was not told, it goes by the default.
    pub(super) fn said(self, answer: &Capabilities) -> Self {
        let transfer = match answer.max_data_xfer_size {
            Some(_) => self.transfer,
            None => self.transfer.max(DEFAULT_TRANSFER),
        };
        let dma_maps = answer.max_dma_maps.and_then(|most| u32::try_from(most).ok());
        Self { transfer, dma_maps: dma_maps.unwrap_or(self.dma_maps) }
    }
}
