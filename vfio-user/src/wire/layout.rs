//! The fixed parts of payloads, as the specification lays them out.

use vfio_irq_engine::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Takes a fixed part off the front of a payload. Returns `EINVAL` if the payload is too short.
pub(crate) fn take<T: FromBytes>(payload: &mut &[u8]) -> Result<T, Errno> {
    let (value, rest) = T::read_from_prefix(payload).map_err(|_| Errno::EINVAL)?;
    *payload = rest;
    Ok(value)
}

/// Appends a fixed part to a payload.
pub(crate) fn put(out: &mut Vec<u8>, value: &(impl IntoBytes + Immutable)) {
    out.extend_from_slice(value.as_bytes());
}

/// Converts a length to 32 bits; no message is longer.
pub(crate) fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// `struct vfio_user_dma_map`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct DmaMap {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) size: u64,
}

impl DmaMap {
    pub(crate) const READ: u32 = 1;
    pub(crate) const WRITE: u32 = 2;
}

/// `struct vfio_user_dma_unmap`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct DmaUnmap {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) address: u64,
    pub(crate) size: u64,
}

impl DmaUnmap {
    pub(crate) const ALL: u32 = 2;
}

/// The range of a DMA_READ or DMA_WRITE, in command and reply.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct DmaRange {
    pub(crate) address: u64,
    pub(crate) count: u64,
}

/// `struct vfio_region_info`.
#[derive(Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RegionInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) index: u32,
    pub(crate) cap_offset: u32,
    pub(crate) size: u64,
    pub(crate) offset: u64,
}

/// `struct vfio_info_cap_header`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Capability {
    pub(crate) id: u16,
    pub(crate) version: u16,
    pub(crate) next: u32,
}

/// `VFIO_USER_REGION_READ` and `VFIO_USER_REGION_WRITE`. The end is within 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Access {
    /// First byte.
    pub offset: u64,
    /// The region index.
    pub region: u32,
    /// The size in bytes.
    pub count: u32,
}

impl Access {
    /// Bytes of the structure.
    pub const LEN: usize = 16;

    /// Returns the offset after the last byte.
    pub const fn end(&self) -> u64 {
        // Cannot overflow: `check` has checked the end.
        self.offset.saturating_add(self.count as u64)
    }

    pub(super) fn parse(payload: &mut &[u8]) -> Result<Self, Errno> {
        let access: Self = take(payload)?;
        access.offset.checked_add(u64::from(access.count)).ok_or(Errno::EINVAL)?;
        Ok(access)
    }
}

/// One write of a REGION_WRITE_MULTI: eight bytes whatever the count.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct PaddedWrite {
    pub(crate) access: Access,
    pub(crate) data: [u8; 8],
}
