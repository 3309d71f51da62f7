//! Payloads that a client writes, and those that it reads.

use crate::errno;
use crate::wire::{Access, Area, Capabilities, IoSpan, RegionInfo, Request};
use std::os::fd::OwnedFd;
use vfio_irq_engine::Errno;

/// What an interrupt index can do.
///
/// ```
/// use vfio_irq_user::abi::{Index, flags};
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// let line = client.irq_info(Index::Intx)?;
/// // One line, which masks itself when it signals: whoever has served it unmasks it.
/// assert_eq!(line.count, 1);
/// assert_ne!(line.flags & flags::INFO_AUTOMASKED, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IrqInfo {
    /// `INFO_*` of [`crate::abi::flags`].
    pub flags: u32,
    /// How many vectors.
    pub count: u32,
}

/// A region of a device.
///
/// ```
/// use vfio_irq_user::wire::RegionInfo;
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// let registers = client.region(0)?;
/// assert_eq!((registers.size, registers.flags), (0x4000, RegionInfo::READ | RegionInfo::WRITE));
/// assert!(registers.shared.is_none(), "each access is a message");
/// assert_eq!(client.region(1)?.size, 0, "the device has no such BAR");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Region {
    /// [`RegionInfo::READ`] and the others.
    pub flags: u32,
    /// Bytes.
    pub size: u64,
    /// What of it can be mapped.
    pub shared: Option<SharedRegion>,
}

/// How a region can be mapped.
///
/// ```
/// use std::os::unix::fs::FileExt;
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// let shared = client.region(2)?.shared.ok_or("not to be mapped")?;
/// assert!(shared.areas.is_empty(), "all of it");
/// // Mapped, this is one instruction and no message; the file is the same.
/// let file = std::fs::File::from(shared.fd);
/// file.write_all_at(&7_u32.to_le_bytes(), shared.offset)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedRegion {
    /// The file.
    pub fd: OwnedFd,
    /// Where the region begins in it.
    pub offset: u64,
    /// Which parts; none means all of it.
    pub areas: Vec<Area>,
}

pub(super) fn put_words(out: &mut Vec<u8>, words: &[u32]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_ne_bytes()));
}

pub(super) fn put_longs(out: &mut Vec<u8>, longs: &[u64]) {
    longs.iter().for_each(|long| out.extend_from_slice(&long.to_ne_bytes()));
}

pub(super) fn put_access(out: &mut Vec<u8>, access: &Access) {
    put_longs(out, &[access.offset]);
    put_words(out, &[access.region, access.count]);
}

pub(super) fn put_writes(out: &mut Vec<u8>, writes: &[(u32, u64, &[u8])]) {
    put_longs(out, &[writes.len() as u64]);
    for (region, offset, data) in writes {
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        put_access(out, &Access { offset: *offset, region: *region, count });
        let mut padded = [0; 8];
        padded.iter_mut().zip(data.iter()).for_each(|(to, from)| *to = *from);
        out.extend_from_slice(&padded);
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    word.map_or(0, |word| u32::from_ne_bytes(*word))
}

pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    let long = bytes.get(at..).and_then(<[u8]>::first_chunk);
    long.map_or(0, |long| u64::from_ne_bytes(*long))
}

/// The first words of a payload that has at least so many.
pub(super) fn words<const N: usize>(payload: &[u8]) -> Result<[u32; N], Errno> {
    if payload.len() < 4 * N {
        return Err(errno::EIO);
    }
    Ok(std::array::from_fn(|i| word(payload, 4 * i)))
}

/// Major, minor and capabilities.
pub(super) fn version(payload: &[u8]) -> Result<(u16, u16, Capabilities), Errno> {
    let proposal = Request::version(payload)?;
    Ok((proposal.major, proposal.minor, proposal.capabilities()?))
}

/// How many bytes the whole answer takes, and the region.
pub(super) fn region(payload: &[u8], fds: &mut Vec<OwnedFd>) -> Result<(u32, Region), Errno> {
    let [needed, flags, _, cap, ..] = words::<8>(payload)?;
    let shared = (flags & RegionInfo::MMAP != 0).then(|| fds.pop()).flatten();
    let shared = match shared {
        None => None,
        Some(fd) => {
            let cap = if flags & RegionInfo::CAPS != 0 { cap } else { 0 };
            Some(SharedRegion { fd, offset: long(payload, 24), areas: areas(payload, cap)? })
        }
    };
    Ok((needed, Region { flags, size: long(payload, 16), shared }))
}

/// The areas of every capability that lists some, from this one on.
fn areas(payload: &[u8], first: u32) -> Result<Vec<Area>, Errno> {
    let (mut areas, mut at) = (Vec::new(), first as usize);
    while at != 0 {
        let cap = payload.get(at..).filter(|cap| cap.len() >= 8).ok_or(errno::EIO)?;
        let next = word(cap, 4) as usize;
        let [id, _, ..] = cap else { return Err(errno::EIO) };
        if *id == 1 {
            let list = cap.get(16..).ok_or(errno::EIO)?;
            let list = list.get(..16 * word(cap, 8) as usize).ok_or(errno::EIO)?;
            let read = |area: &[u8]| Area { offset: long(area, 0), size: long(area, 8) };
            areas.extend(list.chunks_exact(16).map(read));
        }
        if next != 0 && next <= at {
            return Err(errno::EIO);
        }
        at = next;
    }
    Ok(areas)
}

/// Where, how many bytes, and the eventfd; spans that share one get a copy each.
pub(super) fn io_eventfds(
    payload: &[u8],
    fds: &[OwnedFd],
) -> Result<Vec<(u64, u64, OwnedFd)>, Errno> {
    let [_, _, _, count] = words(payload)?;
    let spans = payload.get(IoSpan::HEAD as usize..).unwrap_or_default();
    let spans = spans.chunks_exact(IoSpan::LEN as usize);
    if spans.len() != count as usize {
        return Err(errno::EIO);
    }
    let read = |span: &[u8]| {
        let fd = fds.get(word(span, 16) as usize).ok_or(errno::EIO)?;
        let fd = fd.try_clone().map_err(|_| errno::EMFILE)?;
        Ok((long(span, 0), long(span, 8), fd))
    };
    spans.map(read).collect()
}
