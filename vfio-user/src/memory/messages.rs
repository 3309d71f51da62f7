//! Memory that the client serves by messages.

use crate::errno;
use crate::link::{Link, Window};
use crate::wire::Command;
use crate::wire::layout::{DmaRange, put, take};
use std::fmt;
use std::sync::Arc;
use vfio_irq_engine::Errno;

/// The client, and the limit of data bytes per message.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) link: Arc<Link>,
    pub(super) transfer: usize,
}

/// One window of memory that the client serves. No lock is held while the client serves an access.
pub(super) struct Messages {
    pub(super) peer: Option<Peer>,
    pub(super) window: Arc<Window>,
}

impl Messages {
    fn peer(&self) -> Result<&Peer, Errno> {
        let peer = self.peer.as_ref().ok_or(errno::ENOTCONN)?;
        // If the client negotiated a transfer limit of 0, it can serve no access.
        if peer.transfer == 0 { Err(errno::EMSGSIZE) } else { Ok(peer) }
    }

    /// Reads from `address`. Returns the errors of [`Link::call`].
    pub(super) fn read(&self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        let peer = self.peer()?;
        let mut at = address;
        for chunk in data.chunks_mut(peer.transfer) {
            let len = chunk.len();
            let asked = |out: &mut Vec<u8>| put(out, &DmaRange { address: at, count: len as u64 });
            peer.link.call(Command::DmaRead, &self.window, asked, |mut payload| {
                take::<DmaRange>(&mut payload).map_err(|_| errno::EIO)?;
                if payload.len() != len {
                    return Err(errno::EIO);
                }
                chunk.copy_from_slice(payload);
                Ok(())
            })?;
            at = at.wrapping_add(len as u64);
        }
        Ok(())
    }

    /// Writes to `address`. Returns the errors of [`Link::call`].
    pub(super) fn write(&self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let peer = self.peer()?;
        let mut at = address;
        for chunk in data.chunks(peer.transfer) {
            let asked = |out: &mut Vec<u8>| {
                put(out, &DmaRange { address: at, count: chunk.len() as u64 });
                out.extend_from_slice(chunk);
            };
            // Clients report the written count in 4 or in 8 bytes, so the count is ignored.
            peer.link.call(Command::DmaWrite, &self.window, asked, |_| Ok(()))?;
            at = at.wrapping_add(chunk.len() as u64);
        }
        Ok(())
    }
}

/// Makes accesses that need a reply of the client fail, until dropped ([`crate::Memory::quiesce`]).
pub struct Quiesced(Option<Arc<Link>>);

impl Quiesced {
    pub(super) fn new(link: Option<Arc<Link>>) -> Self {
        link.iter().for_each(|link| link.quiesce());
        Self(link)
    }
}

impl Drop for Quiesced {
    fn drop(&mut self) {
        self.0.iter().for_each(|link| link.resume());
    }
}

impl fmt::Debug for Quiesced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quiesced").finish_non_exhaustive()
    }
}
