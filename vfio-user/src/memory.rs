//! The memory of the client, as the device accesses it.

mod messages;

use crate::errno;
use crate::link::{Link, Window};
use crate::sys::Mapping;
use crate::wire::DmaMap;
pub use messages::Quiesced;
use messages::{Messages, Peer};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use vfio_irq_engine::Errno;

enum Backing {
    /// DMA_MAP came with a descriptor.
    Mapped(Mapping),
    /// DMA_MAP came without a descriptor, so accesses are DMA_READ and DMA_WRITE messages.
    Messages(Arc<Window>),
}

struct Range {
    size: u64,
    readable: bool,
    writable: bool,
    backing: Backing,
}

#[derive(Default)]
struct State {
    ranges: BTreeMap<u64, Range>,
    peer: Option<Peer>,
}

/// The memory of the client. Clones share it, and any thread of the device may use it.
///
/// Addresses are those of DMA_MAP (guest physical addresses or IOVAs). An access may span adjacent
/// mappings. If memory is mapped by a descriptor, DMA_UNMAP waits for accesses in progress. If the
/// client serves memory by messages, DMA_UNMAP ends accesses in progress with `EFAULT`. Later
/// accesses to unmapped memory fail with `EFAULT`.
#[derive(Clone, Default)]
pub struct Memory(Arc<RwLock<State>>);

impl Memory {
    /// Copies from the memory of the client to `data`.
    ///
    /// # Errors
    ///
    /// - `EFAULT` if a part is not mapped, or is unmapped before the client has replied
    /// - `EACCES` if a part is not readable
    /// - `ECANCELED` if the device is quiesced ([`Memory::quiesce`]) while the client serves the
    ///   access
    /// - `EDEADLK` if the client must serve the access and the caller is a method of
    ///   [`crate::Device`]: the client waits for that method
    /// - the errno of the client's reply
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        let mut rest = data;
        self.each(address, rest.len(), Access::Read, |at, piece| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(piece.len);
            rest = later;
            match piece.place {
                Place::Mapped(mapping) => mapping.read(piece.offset, now),
                Place::Messages(messages) => messages.read(at, now),
            }
        })
    }

    /// Copies `data` to the memory of the client.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`]; `EACCES` if a part is not writable.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let mut rest = data;
        self.each(address, rest.len(), Access::Write, |at, piece| {
            let (now, later) = rest.split_at(piece.len);
            rest = later;
            match piece.place {
                Place::Mapped(mapping) => mapping.write(piece.offset, now),
                Place::Messages(messages) => messages.write(at, now),
            }
        })
    }

    /// Loads an aligned word atomically with acquire ordering, as for a doorbell. Returns the word.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`]; `EINVAL` if the address is not aligned.
    pub fn load(&self, address: u64) -> Result<u32, Errno> {
        let mut word = 0;
        self.each(address, 4, Access::Read, |at, piece| {
            word = match piece.place {
                Place::Mapped(mapping) if piece.len == 4 => mapping.load(piece.offset)?,
                Place::Messages(messages) if piece.len == 4 => {
                    let mut bytes = [0; 4];
                    messages.read(at, &mut bytes)?;
                    u32::from_ne_bytes(bytes)
                }
                Place::Mapped(_) | Place::Messages(_) => return Err(Errno::EINVAL),
            };
            Ok(())
        })?;
        Ok(word)
    }

    /// Stores an aligned word atomically with release ordering, as for the phase bit of a
    /// completion.
    ///
    /// # Errors
    ///
    /// As [`Memory::write`]; `EINVAL` if the address is not aligned.
    pub fn store(&self, address: u64, value: u32) -> Result<(), Errno> {
        self.each(address, 4, Access::Write, |at, piece| match piece.place {
            Place::Mapped(mapping) if piece.len == 4 => mapping.store(piece.offset, value),
            Place::Messages(messages) if piece.len == 4 => messages.write(at, &value.to_ne_bytes()),
            Place::Mapped(_) | Place::Messages(_) => Err(Errno::EINVAL),
        })
    }

    /// Reads `len` bytes of a file to the memory of the client. Mapped memory needs no copy.
    ///
    /// # Errors
    ///
    /// As [`Memory::write`]; the errno of the file; `EIO` at the end of the file.
    pub fn fill_from(
        &self,
        address: u64,
        len: usize,
        file: BorrowedFd<'_>,
        position: u64,
    ) -> Result<(), Errno> {
        self.each(address, len, Access::Write, |at, piece| {
            let position = position.saturating_add(at - address);
            match piece.place {
                Place::Mapped(mapping) => whole(piece.len, |done| {
                    let (offset, from) = (piece.offset + done, position + done as u64);
                    mapping.fill(offset, piece.len - done, file, from)
                }),
                Place::Messages(messages) => {
                    let mut copy = vec![0; piece.len];
                    whole(piece.len, |done| {
                        let into = copy.get_mut(done..).unwrap_or_default();
                        rustix::io::pread(file, into, position + done as u64).map_err(errno::of)
                    })?;
                    messages.write(at, &copy)
                }
            }
        })
    }

    /// Writes `len` bytes of the memory of the client to a file. Mapped memory needs no copy.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`]; the errno of the file.
    pub fn drain_to(
        &self,
        address: u64,
        len: usize,
        file: BorrowedFd<'_>,
        position: u64,
    ) -> Result<(), Errno> {
        self.each(address, len, Access::Read, |at, piece| {
            let position = position.saturating_add(at - address);
            match piece.place {
                Place::Mapped(mapping) => whole(piece.len, |done| {
                    let (offset, to) = (piece.offset + done, position + done as u64);
                    mapping.drain(offset, piece.len - done, file, to)
                }),
                Place::Messages(messages) => {
                    let mut copy = vec![0; piece.len];
                    messages.read(at, &mut copy)?;
                    whole(piece.len, |done| {
                        let from = copy.get(done..).unwrap_or_default();
                        rustix::io::pwrite(file, from, position + done as u64).map_err(errno::of)
                    })
                }
            }
        })
    }

    /// Returns true if the whole range is mapped.
    pub fn covers(&self, address: u64, len: usize) -> bool {
        self.each(address, len, Access::Look, |_, _| Ok(())).is_ok()
    }

    /// Ends every access that waits for a reply of the client with `ECANCELED`. New accesses that
    /// need a reply fail as well, until the returned guard is dropped. Mapped memory stays
    /// accessible.
    ///
    /// A client need not answer DMA_READ before its own command is answered. So a method of
    /// [`crate::Device`] that waits for threads of the device must quiesce first; otherwise both
    /// sides wait (deadlock). The server quiesces before it calls [`crate::Device::reset`].
    #[must_use = "accesses may wait for the client again once it is dropped"]
    pub fn quiesce(&self) -> Quiesced {
        let link = self.0.read().peer.as_ref().map(|peer| Arc::clone(&peer.link));
        Quiesced::new(link)
    }

    /// Calls `act` for the part of each mapping in the range, in order. The read lock keeps mapped
    /// parts mapped. If the client serves a part by messages, the lock is released: DMA_UNMAP must
    /// not wait for a reply of the client that sends it.
    fn each(
        &self,
        address: u64,
        len: usize,
        access: Access,
        mut act: impl FnMut(u64, Piece<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let (mut at, mut left) = (address, len);
        while left > 0 {
            let state = self.0.read();
            let (start, range) = state.ranges.range(..=at).next_back().ok_or(Errno::EFAULT)?;
            let offset = at - start;
            let there = range.size.checked_sub(offset).filter(|n| *n > 0).ok_or(Errno::EFAULT)?;
            let len = usize::try_from(there).unwrap_or(usize::MAX).min(left);
            let offset = usize::try_from(offset).map_err(|_| Errno::EFAULT)?;
            range.allows(access)?;
            match &range.backing {
                Backing::Mapped(mapping) => {
                    act(at, Piece { place: Place::Mapped(mapping), offset, len })?;
                }
                Backing::Messages(window) => {
                    let window = Arc::clone(window);
                    let messages = Messages { peer: state.peer.clone(), window };
                    drop(state);
                    act(at, Piece { place: Place::Messages(&messages), offset, len })?;
                }
            }
            left -= len;
            if left > 0 {
                at = at.checked_add(len as u64).ok_or(Errno::EFAULT)?;
            }
        }
        Ok(())
    }

    /// Connects a client. `transfer` is the limit of bytes per message.
    pub(crate) fn connect(&self, link: Arc<Link>, transfer: u32) {
        let transfer = usize::try_from(transfer).unwrap_or(usize::MAX);
        self.0.write().peer = Some(Peer { link, transfer });
    }

    /// Disconnects the client, and drops its mappings.
    pub(crate) fn disconnect(&self) {
        *self.0.write() = State::default();
    }

    pub(crate) fn map(&self, map: &DmaMap, fd: Option<OwnedFd>, most: u32) -> Result<(), Errno> {
        let mut state = self.0.write();
        let before = state.ranges.range(..=map.last()).next_back();
        // No range is empty, so the subtraction cannot underflow.
        if before.is_some_and(|(start, range)| start + (range.size - 1) >= map.address) {
            return Err(errno::EEXIST);
        }
        if state.ranges.len() >= most as usize {
            return Err(Errno::ENOSPC);
        }
        let (readable, writable) = (map.readable, map.writable);
        let backing = match fd {
            Some(fd) => {
                Backing::Mapped(Mapping::new(fd.as_fd(), map.offset, map.size, readable, writable)?)
            }
            None => Backing::Messages(Arc::default()),
        };
        state.ranges.insert(map.address, Range { size: map.size, readable, writable, backing });
        Ok(())
    }

    /// Returns true if one mapping covers exactly this range.
    pub(crate) fn is_range(&self, address: u64, size: u64) -> bool {
        self.0.read().ranges.get(&address).is_some_and(|range| range.size == size)
    }

    /// Unmaps a range. Waits for accesses in progress, and abandons accesses without a reply.
    /// Returns ENOENT if no mapping covers exactly this range.
    pub(crate) fn unmap(&self, address: u64, size: u64) -> Result<(), Errno> {
        let mut state = self.0.write();
        if state.ranges.get(&address).is_none_or(|range| range.size != size) {
            return Err(errno::ENOENT);
        }
        let gone = state.ranges.remove(&address);
        state.abandon(gone);
        Ok(())
    }

    /// Unmaps everything, as [`Memory::unmap`] does.
    pub(crate) fn unmap_all(&self) {
        let mut state = self.0.write();
        let gone = std::mem::take(&mut state.ranges);
        state.abandon(gone.into_values());
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("ranges", &self.0.read().ranges.len()).finish()
    }
}

/// The kind of an access.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Look,
    Read,
    Write,
}

impl Range {
    fn allows(&self, access: Access) -> Result<(), Errno> {
        let allowed = match access {
            Access::Look => true,
            Access::Read => self.readable,
            Access::Write => self.writable,
        };
        if allowed { Ok(()) } else { Err(errno::EACCES) }
    }
}

impl State {
    /// Abandons the accesses to unmapped ranges.
    fn abandon(&self, gone: impl IntoIterator<Item = Range>) {
        for range in gone {
            let Backing::Messages(window) = range.backing else { continue };
            window.unmap();
            self.peer.iter().for_each(|peer| peer.link.abandon(&window));
        }
    }
}

/// The backing of a part of an access.
#[derive(Clone, Copy)]
enum Place<'s> {
    Mapped(&'s Mapping),
    Messages(&'s Messages),
}

/// The part of an access in one mapping.
struct Piece<'s> {
    place: Place<'s>,
    offset: usize,
    len: usize,
}

/// Repeats a transfer that may be short. Returns EIO if a step transfers nothing.
fn whole(len: usize, mut step: impl FnMut(usize) -> Result<usize, Errno>) -> Result<(), Errno> {
    let mut done = 0;
    while done < len {
        match step(done)? {
            0 => return Err(errno::EIO),
            more => done += more,
        }
    }
    Ok(())
}
