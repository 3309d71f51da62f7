//! Memory that the client serves by messages.

use crate::errno;
use crate::link::{Link, Window};
use crate::wire::Command;
use std::fmt;
use std::sync::Arc;
use vfio_irq_engine::Errno;

/// The client, and how many bytes one message between it and this server can move.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) link: Arc<Link>,
    pub(super) transfer: usize,
}

/// One window of the client's memory. No lock is held while the client is asked.
pub(super) struct Messages {
    pub(super) peer: Option<Peer>,
    pub(super) window: Arc<Window>,
}

impl Messages {
    fn peer(&self) -> Result<&Peer, Errno> {
        let peer = self.peer.as_ref().ok_or(errno::ENOTCONN)?;
        // A client whose messages can carry no data can serve none.
        if peer.transfer == 0 { Err(errno::EMSGSIZE) } else { Ok(peer) }
    }

    /// Reads from this address on.
    pub(super) fn read(&self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        let peer = self.peer()?;
        let mut at = address;
        for chunk in data.chunks_mut(peer.transfer) {
            let len = chunk.len();
            let asked = |out: &mut Vec<u8>| put_range(out, at, len);
            peer.link.call(Command::DmaRead, &self.window, asked, |payload| {
                let (_, bytes) = payload.split_first_chunk::<16>().ok_or(errno::EIO)?;
                if bytes.len() != len {
                    return Err(errno::EIO);
                }
                chunk.copy_from_slice(bytes);
                Ok(())
            })?;
            at = at.wrapping_add(len as u64);
        }
        Ok(())
    }

    /// Writes from this address on.
    pub(super) fn write(&self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let peer = self.peer()?;
        let mut at = address;
        for chunk in data.chunks(peer.transfer) {
            let asked = |out: &mut Vec<u8>| {
                put_range(out, at, chunk.len());
                out.extend_from_slice(chunk);
            };
            // What was written is said in 4 bytes by some and in 8 by others: no error is enough.
            peer.link.call(Command::DmaWrite, &self.window, asked, |_| Ok(()))?;
            at = at.wrapping_add(chunk.len() as u64);
        }
        Ok(())
    }
}

/// Has accesses that would ask the client fail until it is dropped ([`crate::Memory::quiesce`]).
///
/// ```
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// // It may be taken while it is in force: the last one to be dropped ends it.
/// let (one, other) = (bus.memory.quiesce(), bus.memory.quiesce());
/// drop(one);
/// # client.dma_map(0, 0x1000, None)?;
/// let memory = bus.memory.clone();
/// let worker = std::thread::spawn(move || memory.load(0));
/// assert!(worker.join().expect("no panic").is_err());
/// # drop(other);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

fn put_range(out: &mut Vec<u8>, address: u64, len: usize) {
    out.extend_from_slice(&address.to_ne_bytes());
    out.extend_from_slice(&(len as u64).to_ne_bytes());
}
