//! The limits of a session.

use crate::wire::{Capabilities, DEFAULT_TRANSFER};

/// The limits that a session grants its client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Grants {
    /// The limit of data bytes per message.
    pub transfer: u32,
    /// The limit of mappings.
    pub dma_maps: u32,
}

impl Grants {
    /// Returns the effective limits: if the client was not told a limit, the default applies.
    pub(super) fn effective(self, answer: &Capabilities) -> Self {
        let transfer = match answer.max_data_xfer_size {
            Some(_) => self.transfer,
            None => self.transfer.max(DEFAULT_TRANSFER),
        };
        let dma_maps = answer.max_dma_maps.and_then(|most| u32::try_from(most).ok());
        Self { transfer, dma_maps: dma_maps.unwrap_or(self.dma_maps) }
    }
}
