//! What a session lets its client do.

use crate::wire::{Capabilities, DEFAULT_TRANSFER};

/// What a session grants its client.
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
