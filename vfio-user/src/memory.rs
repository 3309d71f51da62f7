//! The client's memory, as the device reaches it.

use crate::link::Link;
use crate::sys::Mapping;
use crate::wire::{Command, DmaMap};
use crate::{errno, wire};
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use vfio_irq_engine::Errno;

enum Backing {
    /// A descriptor came with it.
    Mapped(Mapping),
    /// None did: accesses are messages to the client.
    Messages,
}

struct Range {
    size: u64,
    readable: bool,
    writable: bool,
    backing: Backing,
}

struct Peer {
    link: Arc<Link>,
    transfer: u32,
}

#[derive(Default)]
struct State {
    ranges: BTreeMap<u64, Range>,
    peer: Option<Peer>,
}

/// A handle to the client's memory, for any thread of the device's.
///
/// Addresses are those that the client has told: the guest's. An access may span several mappings that
/// follow one another. A mapping that goes away waits for the accesses that are under way; accesses
/// that come later fail with `EFAULT`, as all do that reach beyond what is mapped.
///
/// ```
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// let memory = bus.memory.clone();
/// client.dma_map(0x1000, 0x1000, None)?;
/// client.dma_map(0x2000, 0x1000, None)?;
/// // Two mappings that follow one another are one piece of memory for the device.
/// assert!(memory.covers(0x1f00, 0x200));
/// drop(client);
/// # while memory.covers(0x1000, 1) { std::thread::yield_now(); }
/// assert!(!memory.covers(0x1000, 1), "a client takes its memory along");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Memory(Arc<RwLock<State>>);

impl Memory {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies out of the client's memory.
    ///
    /// # Errors
    ///
    /// `EFAULT` when part of it is not mapped, `EACCES` when it may not be read, and what the client
    /// answers where it has to be asked.
    ///
    /// ```
    /// # use {rustix::fs::{MemfdFlags, ftruncate, memfd_create}, std::os::fd::AsFd, vfio_irq_user::Errno};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let file = memfd_create("guest", MemfdFlags::CLOEXEC)?;
    /// # ftruncate(&file, 0x1000)?;
    /// client.dma_map(0x8000, 0x1000, Some((file.as_fd(), 0)))?;
    /// let mut descriptor = [1; 16];
    /// assert_eq!(bus.memory.read(0x8ff0, &mut descriptor), Ok(()));
    /// assert_eq!(descriptor, [0; 16]);
    /// // A guest may say any address: one byte too far is an error, and no panic.
    /// assert_eq!(bus.memory.read(0x8ff1, &mut descriptor), Err(Errno::EFAULT));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        let mut rest = data;
        self.each(address, rest.len(), |state, at, piece| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(piece.len);
            rest = later;
            match piece.readable()? {
                Backing::Mapped(mapping) => mapping.read(piece.offset, now),
                Backing::Messages => state.ask_read(at, now),
            }
        })
    }

    /// Copies into the client's memory.
    ///
    /// # Errors
    ///
    /// `EFAULT` when part of it is not mapped, `EACCES` when it may not be written, and what the
    /// client answers where it has to be asked.
    ///
    /// ```
    /// # use {rustix::fs::{MemfdFlags, ftruncate, memfd_create}, std::os::fd::AsFd};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let file = memfd_create("guest", MemfdFlags::CLOEXEC)?;
    /// # ftruncate(&file, 0x1000)?;
    /// client.dma_map(0x8000, 0x1000, Some((file.as_fd(), 0)))?;
    /// assert_eq!(bus.memory.write(0x8010, &[1, 2]), Ok(()));
    /// // The file is the guest's memory, so the guest sees it there.
    /// let mut seen = [0; 2];
    /// rustix::io::pread(&file, &mut seen, 0x10)?;
    /// assert_eq!(seen, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let mut rest = data;
        self.each(address, rest.len(), |state, at, piece| {
            let (now, later) = rest.split_at(piece.len);
            rest = later;
            match piece.writable()? {
                Backing::Mapped(mapping) => mapping.write(piece.offset, now),
                Backing::Messages => state.ask_write(at, now),
            }
        })
    }

    /// Reads an aligned word at once, before everything that is read after it: a doorbell, a flag.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`]; `EINVAL` when it is not aligned.
    ///
    /// ```
    /// # use {rustix::fs::{MemfdFlags, ftruncate, memfd_create}, std::os::fd::AsFd, vfio_irq_user::Errno};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let file = memfd_create("guest", MemfdFlags::CLOEXEC)?;
    /// # ftruncate(&file, 0x1000)?;
    /// client.dma_map(0, 0x1000, Some((file.as_fd(), 0)))?;
    /// rustix::io::pwrite(&file, &5_u32.to_ne_bytes(), 0x100)?;
    /// // The tail of a ring first; the entries that it tells of are read after it.
    /// assert_eq!(bus.memory.load(0x100), Ok(5));
    /// assert_eq!(bus.memory.load(0x102), Err(Errno::EINVAL));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load(&self, address: u64) -> Result<u32, Errno> {
        let mut word = 0;
        self.each(address, 4, |state, at, piece| {
            word = match piece.readable()? {
                Backing::Mapped(mapping) if piece.len == 4 => mapping.load(piece.offset)?,
                Backing::Mapped(_) => return Err(Errno::EINVAL),
                Backing::Messages => {
                    let mut bytes = [0; 4];
                    state.ask_read(at, &mut bytes)?;
                    u32::from_ne_bytes(bytes)
                }
            };
            Ok(())
        })?;
        Ok(word)
    }

    /// Writes an aligned word at once, after everything that was written before it: the word that
    /// tells the client to look at the rest.
    ///
    /// # Errors
    ///
    /// As [`Memory::write`]; `EINVAL` when it is not aligned.
    ///
    /// ```
    /// # use {rustix::fs::{MemfdFlags, ftruncate, memfd_create}, std::os::fd::AsFd};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let file = memfd_create("guest", MemfdFlags::CLOEXEC)?;
    /// # ftruncate(&file, 0x1000)?;
    /// # client.dma_map(0, 0x1000, Some((file.as_fd(), 0)))?;
    /// assert_eq!(bus.memory.write(0x200, b"a completion"), Ok(()));
    /// // Only now: whoever sees the new head sees the completion, too.
    /// assert_eq!(bus.memory.store(0x100, 1), Ok(()));
    /// assert_eq!(bus.memory.load(0x100), Ok(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn store(&self, address: u64, value: u32) -> Result<(), Errno> {
        self.each(address, 4, |state, at, piece| match piece.writable()? {
            Backing::Mapped(mapping) if piece.len == 4 => mapping.store(piece.offset, value),
            Backing::Mapped(_) => Err(Errno::EINVAL),
            Backing::Messages => state.ask_write(at, &value.to_ne_bytes()),
        })
    }

    /// Reads from a file into the client's memory, without a copy where the memory is mapped.
    ///
    /// # Errors
    ///
    /// As [`Memory::write`]; what the file answers; `EIO` at the end of the file.
    ///
    /// ```
    /// # use {rustix::fs::{MemfdFlags, ftruncate, memfd_create}, std::os::fd::AsFd, vfio_irq_user::errno};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let file = memfd_create("guest", MemfdFlags::CLOEXEC)?;
    /// # ftruncate(&file, 0x1000)?;
    /// # client.dma_map(0, 0x1000, Some((file.as_fd(), 0)))?;
    /// let disk = memfd_create("disk", MemfdFlags::CLOEXEC)?;
    /// rustix::io::pwrite(&disk, b"a sector", 512)?;
    /// assert_eq!(bus.memory.fill_from(0x100, 8, disk.as_fd(), 512), Ok(()));
    /// let mut there = [0; 8];
    /// assert_eq!(bus.memory.read(0x100, &mut there), Ok(()));
    /// assert_eq!(&there, b"a sector");
    /// assert_eq!(bus.memory.fill_from(0x100, 9, disk.as_fd(), 512), Err(errno::EIO));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fill_from(
        &self,
        address: u64,
        len: usize,
        file: BorrowedFd<'_>,
        position: u64,
    ) -> Result<(), Errno> {
        let mut position = position;
        self.each(address, len, |state, at, piece| {
            match piece.writable()? {
                Backing::Mapped(mapping) => whole(piece.len, |done| {
                    let (offset, from) = (piece.offset + done, position + done as u64);
                    mapping.fill(offset, piece.len - done, file, from)
                })?,
                Backing::Messages => {
                    let mut copy = vec![0; piece.len];
                    whole(piece.len, |done| {
                        let into = copy.get_mut(done..).unwrap_or_default();
                        rustix::io::pread(file, into, position + done as u64)
                            .map_err(crate::sys::errno_of)
                    })?;
                    state.ask_write(at, &copy)?;
                }
            }
            position += piece.len as u64;
            Ok(())
        })
    }

    /// Writes from the client's memory to a file, without a copy where the memory is mapped.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`]; what the file answers.
    ///
    /// ```
    /// # use {rustix::fs::{MemfdFlags, ftruncate, memfd_create}, std::os::fd::AsFd};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let file = memfd_create("guest", MemfdFlags::CLOEXEC)?;
    /// # ftruncate(&file, 0x1000)?;
    /// # client.dma_map(0, 0x1000, Some((file.as_fd(), 0)))?;
    /// assert_eq!(bus.memory.write(0x100, b"new"), Ok(()));
    /// let disk = memfd_create("disk", MemfdFlags::CLOEXEC)?;
    /// assert_eq!(bus.memory.drain_to(0x100, 3, disk.as_fd(), 1024), Ok(()));
    /// // The file grows as far as it must.
    /// assert_eq!(rustix::fs::fstat(&disk)?.st_size, 1027);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain_to(
        &self,
        address: u64,
        len: usize,
        file: BorrowedFd<'_>,
        position: u64,
    ) -> Result<(), Errno> {
        let mut position = position;
        self.each(address, len, |state, at, piece| {
            match piece.readable()? {
                Backing::Mapped(mapping) => whole(piece.len, |done| {
                    let (offset, to) = (piece.offset + done, position + done as u64);
                    mapping.drain(offset, piece.len - done, file, to)
                })?,
                Backing::Messages => {
                    let mut copy = vec![0; piece.len];
                    state.ask_read(at, &mut copy)?;
                    whole(piece.len, |done| {
                        let from = copy.get(done..).unwrap_or_default();
                        rustix::io::pwrite(file, from, position + done as u64)
                            .map_err(crate::sys::errno_of)
                    })?;
                }
            }
            position += piece.len as u64;
            Ok(())
        })
    }

    /// Whether all of this is mapped.
    ///
    /// ```
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// client.dma_map(0x1000, 0x1000, None)?;
    /// assert!(bus.memory.covers(0x1000, 0x1000));
    /// assert!(!bus.memory.covers(0x1fff, 2));
    /// // No byte is anywhere.
    /// assert!(bus.memory.covers(0, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn covers(&self, address: u64, len: usize) -> bool {
        self.each(address, len, |_, _, _| Ok(())).is_ok()
    }

    /// Calls `act` for each mapping's part of a range, in order. Nothing is unmapped meanwhile.
    fn each(
        &self,
        address: u64,
        len: usize,
        mut act: impl FnMut(&State, u64, Piece<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let state = self.state();
        let (mut at, mut left) = (address, len);
        while left > 0 {
            let (start, range) = state.ranges.range(..=at).next_back().ok_or(Errno::EFAULT)?;
            let offset = at - start;
            let there = range.size.checked_sub(offset).filter(|n| *n > 0).ok_or(Errno::EFAULT)?;
            let len = usize::try_from(there).unwrap_or(usize::MAX).min(left);
            let offset = usize::try_from(offset).map_err(|_| Errno::EFAULT)?;
            act(&state, at, Piece { range, offset, len })?;
            left -= len;
            at = at.saturating_add(len as u64);
        }
        Ok(())
    }

    pub(crate) fn connect(&self, link: Arc<Link>, transfer: u32) {
        self.state_mut().peer = Some(Peer { link, transfer });
    }

    /// The client is gone, and everything of its memory with it.
    pub(crate) fn disconnect(&self) {
        *self.state_mut() = State::default();
    }

    pub(crate) fn map(&self, map: &DmaMap, fd: Option<OwnedFd>, most: u32) -> Result<(), Errno> {
        let mut state = self.state_mut();
        let before = state.ranges.range(..map.address + map.size).next_back();
        if before.is_some_and(|(start, range)| start + range.size > map.address) {
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
            None => Backing::Messages,
        };
        state.ranges.insert(map.address, Range { size: map.size, readable, writable, backing });
        Ok(())
    }

    /// Whether exactly this was mapped in one piece.
    pub(crate) fn is_range(&self, address: u64, size: u64) -> bool {
        self.state().ranges.get(&address).is_some_and(|range| range.size == size)
    }

    pub(crate) fn unmap(&self, address: u64, size: u64) -> Result<(), Errno> {
        let mut state = self.state_mut();
        if state.ranges.get(&address).is_none_or(|range| range.size != size) {
            return Err(errno::ENOENT);
        }
        state.ranges.remove(&address);
        Ok(())
    }

    pub(crate) fn unmap_all(&self) {
        self.state_mut().ranges.clear();
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("ranges", &self.state().ranges.len()).finish()
    }
}

/// What of an access lies in one mapping.
struct Piece<'s> {
    range: &'s Range,
    offset: usize,
    len: usize,
}

impl<'s> Piece<'s> {
    fn readable(&self) -> Result<&'s Backing, Errno> {
        if self.range.readable { Ok(&self.range.backing) } else { Err(errno::EACCES) }
    }

    fn writable(&self) -> Result<&'s Backing, Errno> {
        if self.range.writable { Ok(&self.range.backing) } else { Err(errno::EACCES) }
    }
}

/// Repeats what may do less than it was asked to.
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

impl State {
    fn peer(&self) -> Result<(&Link, usize), Errno> {
        let peer = self.peer.as_ref().ok_or(errno::ENOTCONN)?;
        let most = peer.transfer.clamp(1, wire::DEFAULT_TRANSFER) as usize;
        Ok((&peer.link, most))
    }

    fn ask_read(&self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        let (link, most) = self.peer()?;
        let mut at = address;
        for chunk in data.chunks_mut(most) {
            let len = chunk.len();
            let asked = |out: &mut Vec<u8>| put_range(out, at, len);
            let bytes = link.call(Command::DmaRead, asked, |payload| {
                let (head, bytes) = payload.split_first_chunk::<16>().ok_or(errno::EIO)?;
                let _ = head;
                Ok(bytes.to_vec())
            })?;
            if bytes.len() != chunk.len() {
                return Err(errno::EIO);
            }
            chunk.copy_from_slice(&bytes);
            at = at.wrapping_add(chunk.len() as u64);
        }
        Ok(())
    }

    fn ask_write(&self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let (link, most) = self.peer()?;
        let mut at = address;
        for chunk in data.chunks(most) {
            let asked = |out: &mut Vec<u8>| {
                put_range(out, at, chunk.len());
                out.extend_from_slice(chunk);
            };
            // What was written is said in 4 bytes by some and in 8 by others: no error is enough.
            link.call(Command::DmaWrite, asked, |_| Ok(()))?;
            at = at.wrapping_add(chunk.len() as u64);
        }
        Ok(())
    }
}

fn put_range(out: &mut Vec<u8>, address: u64, len: usize) {
    out.extend_from_slice(&address.to_ne_bytes());
    out.extend_from_slice(&(len as u64).to_ne_bytes());
}
