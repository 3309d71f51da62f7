//! The client's memory, as the device reaches it.

mod messages;

use crate::errno;
use crate::link::{Link, Window};
use crate::sys::Mapping;
use crate::wire::DmaMap;
pub use messages::Quiesced;
use messages::{Messages, Peer};
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use vfio_irq_engine::Errno;

enum Backing {
    /// A descriptor came with it.
    Mapped(Mapping),
    /// None did: accesses are messages to the client.
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

/// A handle to the client's memory, for any thread of the device's.
///
/// Addresses are those that the client has told: the guest's. An access may span several mappings that
/// follow one another. DMA_UNMAP of memory that is mapped waits for the accesses that are under way.
/// DMA_UNMAP of memory that the client serves by messages ends them, with `EFAULT`. Accesses that come
/// later fail with `EFAULT`, as all do that reach beyond what is mapped.
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
    /// `EFAULT` when part of it is not mapped, or is unmapped before the client has answered; `EACCES`
    /// when it may not be read. Where the client has to be asked: what it answers; `ECANCELED` when the
    /// device is reset meanwhile ([`Memory::quiesce`]); `EDEADLK` in a method of [`crate::Device`],
    /// which the client waits for itself.
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
        self.each(address, rest.len(), Access::Read, |at, piece| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(piece.len);
            rest = later;
            match piece.place {
                Place::Mapped(mapping) => mapping.read(piece.offset, now),
                Place::Messages(messages) => messages.read(at, now),
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
        self.each(address, rest.len(), Access::Write, |at, piece| {
            let (now, later) = rest.split_at(piece.len);
            rest = later;
            match piece.place {
                Place::Mapped(mapping) => mapping.write(piece.offset, now),
                Place::Messages(messages) => messages.write(at, now),
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
        self.each(address, 4, Access::Write, |at, piece| match piece.place {
            Place::Mapped(mapping) if piece.len == 4 => mapping.store(piece.offset, value),
            Place::Messages(messages) if piece.len == 4 => messages.write(at, &value.to_ne_bytes()),
            Place::Mapped(_) | Place::Messages(_) => Err(Errno::EINVAL),
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
        self.each(address, len, Access::Write, |at, piece| {
            match piece.place {
                Place::Mapped(mapping) => whole(piece.len, |done| {
                    let (offset, from) = (piece.offset + done, position + done as u64);
                    mapping.fill(offset, piece.len - done, file, from)
                })?,
                Place::Messages(messages) => {
                    let mut copy = vec![0; piece.len];
                    whole(piece.len, |done| {
                        let into = copy.get_mut(done..).unwrap_or_default();
                        rustix::io::pread(file, into, position + done as u64)
                            .map_err(crate::sys::errno_of)
                    })?;
                    messages.write(at, &copy)?;
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
        self.each(address, len, Access::Read, |at, piece| {
            match piece.place {
                Place::Mapped(mapping) => whole(piece.len, |done| {
                    let (offset, to) = (piece.offset + done, position + done as u64);
                    mapping.drain(offset, piece.len - done, file, to)
                })?,
                Place::Messages(messages) => {
                    let mut copy = vec![0; piece.len];
                    messages.read(at, &mut copy)?;
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
        self.each(address, len, Access::Look, |_, _| Ok(())).is_ok()
    }

    /// Ends every access that waits for the client with `ECANCELED`, and has others that would ask it
    /// fail as well, until the returned value is dropped. Memory that is mapped can be reached meanwhile.
    ///
    /// A client need not answer the device before its own command is answered. So a device that waits
    /// for its threads in a method of [`crate::Device`] does that with this: they might wait for the
    /// client. It is in force already while [`crate::Device::reset`] is called.
    ///
    /// ```
    /// # use vfio_irq_user::errno;
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// client.dma_map(0x1000, 0x1000, None)?;
    /// // This client is not there to answer.
    /// let memory = bus.memory.clone();
    /// let quiesced = bus.memory.quiesce();
    /// let worker = std::thread::spawn(move || memory.load(0x1000));
    /// assert_eq!(worker.join().expect("no panic"), Err(errno::ECANCELED));
    /// drop(quiesced); // From now on, accesses wait for the client again.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "accesses may wait for the client again once it is dropped"]
    pub fn quiesce(&self) -> Quiesced {
        let link = self.state().peer.as_ref().map(|peer| Arc::clone(&peer.link));
        Quiesced::new(link)
    }

    /// Calls `act` for each mapping's part of a range, in order. A part that is mapped is not unmapped
    /// meanwhile. For a part that is served by messages, no lock is held.
    fn each(
        &self,
        address: u64,
        len: usize,
        access: Access,
        mut act: impl FnMut(u64, Piece<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let (mut at, mut left) = (address, len);
        while left > 0 {
            let state = self.state();
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

    /// A client is there. `transfer` is how many bytes one message can move.
    pub(crate) fn connect(&self, link: Arc<Link>, transfer: u32) {
        let transfer = usize::try_from(transfer).unwrap_or(usize::MAX);
        self.state_mut().peer = Some(Peer { link, transfer });
    }

    /// The client is gone, and everything of its memory with it.
    pub(crate) fn disconnect(&self) {
        *self.state_mut() = State::default();
    }

    pub(crate) fn map(&self, map: &DmaMap, fd: Option<OwnedFd>, most: u32) -> Result<(), Errno> {
        let mut state = self.state_mut();
        let before = state.ranges.range(..=map.last()).next_back();
        // No range is empty.
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

    /// Whether exactly this was mapped in one piece.
    pub(crate) fn is_range(&self, address: u64, size: u64) -> bool {
        self.state().ranges.get(&address).is_some_and(|range| range.size == size)
    }

    /// Waits for accesses to what is mapped, and abandons those that the client has not answered.
    pub(crate) fn unmap(&self, address: u64, size: u64) -> Result<(), Errno> {
        let mut state = self.state_mut();
        if state.ranges.get(&address).is_none_or(|range| range.size != size) {
            return Err(errno::ENOENT);
        }
        let gone = state.ranges.remove(&address);
        state.abandon(gone);
        Ok(())
    }

    /// The same for all mappings.
    pub(crate) fn unmap_all(&self) {
        let mut state = self.state_mut();
        let gone = std::mem::take(&mut state.ranges);
        state.abandon(gone.into_values());
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("ranges", &self.state().ranges.len()).finish()
    }
}

/// What is done with memory.
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
    /// Mappings have gone.
    fn abandon(&self, gone: impl IntoIterator<Item = Range>) {
        for range in gone {
            let Backing::Messages(window) = range.backing else { continue };
            window.unmap();
            self.peer.iter().for_each(|peer| peer.link.abandon(&window));
        }
    }
}

/// Where a part of an access goes.
#[derive(Clone, Copy)]
enum Place<'s> {
    Mapped(&'s Mapping),
    Messages(&'s Messages),
}

/// What of an access lies in one mapping.
struct Piece<'s> {
    place: Place<'s>,
    offset: usize,
    len: usize,
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
