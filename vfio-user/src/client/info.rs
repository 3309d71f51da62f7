//! The payloads of a client's commands and replies.

use crate::errno;
use crate::wire::layout::{self, Capability, PaddedWrite, len32, put, take};
use crate::wire::{Access, Area, Capabilities, RegionInfo, Request, SubRegion};
use std::os::fd::{BorrowedFd, OwnedFd};
use vfio_irq_engine::Errno;

/// The capabilities of an interrupt index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IrqInfo {
    /// `INFO_*` of [`crate::abi::flags`].
    pub flags: u32,
    /// The number of vectors.
    pub count: u32,
}

/// The data of a SET_IRQS.
#[derive(Clone, Copy, Debug)]
pub enum IrqData<'a> {
    /// No data, for this many vectors.
    None(u32),
    /// One byte per vector; a nonzero byte selects the vector.
    Bool(&'a [u8]),
    /// One eventfd per vector.
    Eventfds(&'a [BorrowedFd<'a>]),
    /// No eventfd, for this many vectors: detaches or disarms them.
    Detach(u32),
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

pub(super) fn put_writes(out: &mut Vec<u8>, writes: &[(u32, u64, &[u8])]) {
    put(out, &(writes.len() as u64));
    for (region, offset, data) in writes {
        let access = Access { offset: *offset, region: *region, count: len32(data.len()) };
        let mut padded = [0; 8];
        padded.iter_mut().zip(data.iter()).for_each(|(to, from)| *to = *from);
        put(out, &PaddedWrite { access, data: padded });
    }
}

/// Major, minor and capabilities.
pub(super) fn version(payload: &[u8]) -> Result<(u16, u16, Capabilities), Errno> {
    let proposal = Request::version(payload)?;
    Ok((proposal.major, proposal.minor, proposal.capabilities()?))
}

/// Decodes a region. Returns the size of the whole reply and the region.
pub(super) fn region(payload: &[u8], fds: &mut Vec<OwnedFd>) -> Result<(u32, Region), Errno> {
    let info: layout::RegionInfo = take(&mut &*payload)?;
    // With several descriptors, what each is for is in a capability that this crate does not know.
    let one = info.flags & RegionInfo::MMAP != 0 && fds.len() == 1;
    let shared = match fds.pop_if(|_| one) {
        None => None,
        Some(fd) => {
            let cap = if info.flags & RegionInfo::CAPS != 0 { info.cap_offset } else { 0 };
            Some(SharedRegion { fd, offset: info.offset, areas: areas(payload, cap)? })
        }
    };
    Ok((info.argsz, Region { flags: info.flags, size: info.size, shared }))
}

/// Returns the areas of all sparse mmap capabilities from the offset `first` on.
fn areas(payload: &[u8], first: u32) -> Result<Vec<Area>, Errno> {
    let (mut areas, mut at) = (Vec::new(), first as usize);
    while at != 0 {
        let mut rest = payload.get(at..).ok_or(errno::EIO)?;
        let cap: Capability = take(&mut rest)?;
        if cap.id == RegionInfo::SPARSE_MMAP {
            let [count, _reserved]: [u32; 2] = take(&mut rest)?;
            for _ in 0..count {
                areas.push(take(&mut rest)?);
            }
        }
        let next = cap.next as usize;
        // A list that goes back may have no end.
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
    let mut spans = payload;
    let [needed, _, _, count] = take(&mut spans)?;
    if count == 0 || needed > room {
        return Ok((needed, Vec::new()));
    }
    // The server reports the size of an entry: another type may have more fields than an ioeventfd.
    let all = needed.checked_sub(SubRegion::HEAD).ok_or(errno::EIO)?;
    if all % count != 0 || all / count < SubRegion::LEN || spans.len() != all as usize {
        return Err(errno::EIO);
    }
    let spans = spans.chunks_exact((all / count) as usize);
    let spans: Result<_, _> = spans.map(|span| io_sub_region(span, fds, size)).collect();
    Ok((needed, spans?))
}

fn io_sub_region(mut span: &[u8], fds: &[OwnedFd], region: u64) -> Result<IoSubRegion, Errno> {
    let SubRegion { offset, size, fd_index, kind, flags, datamatch, .. } = take(&mut span)?;
    let end = offset.checked_add(size).filter(|end| *end <= region && offset < region);
    end.ok_or(errno::EIO)?;
    let fd =
        if kind == SubRegion::IOEVENTFD && flags & !(SubRegion::DATAMATCH | SubRegion::PIO) == 0 {
            let fd = fds.get(fd_index as usize).ok_or(errno::EIO)?;
            let fd = fd.try_clone().map_err(|_| errno::EMFILE)?;
            let datamatch = (flags & SubRegion::DATAMATCH != 0).then_some(datamatch);
            IoFd::Ioeventfd { fd, datamatch, pio: flags & SubRegion::PIO != 0 }
        } else {
            IoFd::Unknown { kind, flags }
        };
    Ok(IoSubRegion { offset, size, fd })
}
