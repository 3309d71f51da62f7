//! The payloads of a client's commands and replies.

use crate::errno;
use crate::wire::{Access, Area, Capabilities, IoSpan, RegionInfo, Request};
use std::os::fd::OwnedFd;
use vfio_irq_engine::Errno;

/// The capabilities of an interrupt index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IrqInfo {
    /// `INFO_*` of [`crate::abi::flags`].
    pub flags: u32,
    /// The number of vectors.
    pub count: u32,
}

/// A region of a device.
#[derive(Debug)]
pub struct Region {
    /// [`RegionInfo::READ`] and the others.
    pub flags: u32,
    /// Bytes.
    pub size: u64,
    /// The mapping of the region, if there is one.
    pub shared: Option<SharedRegion>,
}

/// The mapping of a region.
#[derive(Debug)]
pub struct SharedRegion {
    /// The file.
    pub fd: OwnedFd,
    /// The offset of the region in the file.
    pub offset: u64,
    /// The mappable areas; empty means the whole region.
    pub areas: Vec<Area>,
}

/// A sub-region whose accesses go to a descriptor.
#[derive(Debug)]
pub struct IoSubRegion {
    /// The offset in the region.
    pub offset: u64,
    /// The size of an access; 0 matches any size.
    pub size: u64,
    /// The descriptor.
    pub fd: IoFd,
}

/// The descriptor of a sub-region.
#[derive(Debug)]
pub enum IoFd {
    /// An ioeventfd, which a write signals (`KVM_IOEVENTFD`).
    Ioeventfd {
        /// The eventfd. Sub-regions with the same eventfd get duplicates.
        fd: OwnedFd,
        /// The matching value, if not any (`KVM_IOEVENTFD_FLAG_DATAMATCH`).
        datamatch: Option<u64>,
        /// The region is in I/O port space (`KVM_IOEVENTFD_FLAG_PIO`).
        pio: bool,
    },
    /// A type that this crate does not know (ioregionfd is 1), or an ioeventfd with unknown flags.
    /// The descriptor is closed.
    Unknown {
        /// `type` of the sub-region.
        kind: u32,
        /// `flags` of the sub-region.
        flags: u32,
    },
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

/// Decodes a region. Returns the size of the whole reply and the region.
pub(super) fn region(payload: &[u8], fds: &mut Vec<OwnedFd>) -> Result<(u32, Region), Errno> {
    let [needed, flags, _, cap, ..] = words::<8>(payload)?;
    // With several descriptors, what each is for is in a capability that this crate does not know.
    let fd = if flags & RegionInfo::MMAP != 0 && fds.len() == 1 { fds.pop() } else { None };
    let shared = match fd {
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
        let [id0, id1, ..] = cap else { return Err(errno::EIO) };
        if u16::from_ne_bytes([*id0, *id1]) == RegionInfo::SPARSE_MMAP {
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

/// Decodes the sub-regions of a region of `size` bytes. Returns the size of the whole reply, and
/// the sub-regions if `argsz` had room for them.
pub(super) fn io_fds(
    payload: &[u8],
    fds: &[OwnedFd],
    room: u32,
    size: u64,
) -> Result<(u32, Vec<IoSubRegion>), Errno> {
    let [needed, _, _, count] = words(payload)?;
    if count == 0 || needed > room {
        return Ok((needed, Vec::new()));
    }
    let spans = payload.get(IoSpan::HEAD as usize..).unwrap_or_default();
    // The server reports the size of an entry: another type may have more fields than an ioeventfd.
    let all = needed.checked_sub(IoSpan::HEAD).ok_or(errno::EIO)?;
    if all % count != 0 || all / count < IoSpan::LEN || spans.len() != all as usize {
        return Err(errno::EIO);
    }
    let spans = spans.chunks_exact((all / count) as usize);
    let spans: Result<_, _> = spans.map(|span| io_sub_region(span, fds, size)).collect();
    Ok((needed, spans?))
}

fn io_sub_region(span: &[u8], fds: &[OwnedFd], region: u64) -> Result<IoSubRegion, Errno> {
    let (offset, size) = (long(span, 0), long(span, 8));
    let end = offset.checked_add(size).filter(|end| *end <= region && offset < region);
    end.ok_or(errno::EIO)?;
    let (kind, flags) = (word(span, 20), word(span, 24));
    let fd = if kind == IoSpan::IOEVENTFD && flags & !(IoSpan::DATAMATCH | IoSpan::PIO) == 0 {
        let fd = fds.get(word(span, 16) as usize).ok_or(errno::EIO)?;
        let fd = fd.try_clone().map_err(|_| errno::EMFILE)?;
        let datamatch = (flags & IoSpan::DATAMATCH != 0).then(|| long(span, 32));
        IoFd::Ioeventfd { fd, datamatch, pio: flags & IoSpan::PIO != 0 }
    } else {
        IoFd::Unknown { kind, flags }
    };
    Ok(IoSubRegion { offset, size, fd })
}
