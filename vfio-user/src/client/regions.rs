//! The regions of a device.

use super::channel::TRANSFER;
use super::{Client, ClientError, IoSubRegion, Region, info};
use crate::errno;
use crate::wire::{Access, Command, Writes};
use vfio_irq_engine::Errno;

/// Writes that a client puts into one message at most, as QEMU does.
const WRITES: usize = 200;

/// Parts of something of this length, none longer than `most`: where each begins, and its length. At
/// least one, which may be empty.
fn pieces(len: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let last = len.saturating_sub(1) / most * most;
    (0..=last).step_by(most).map(move |start| (start, most.min(len - start)))
}

/// A part of an access. One that goes beyond 64 bits is for the server to refuse.
fn access(region: u32, offset: u64, start: usize, len: usize) -> Access {
    let count = u32::try_from(len).unwrap_or(u32::MAX);
    Access { offset: offset.saturating_add(start as u64), region, count }
}

impl Client {
    /// A region, with what of it can be mapped (`VFIO_USER_DEVICE_GET_REGION_INFO`).
    ///
    /// # Errors
    ///
    /// `EINVAL` from the server when there is no such region; as every call.
    pub fn region(&self, index: u32) -> Result<Region, ClientError> {
        let mut room = 32;
        loop {
            let put = |out: &mut Vec<u8>| info::put_words(out, &[room, 0, index, 0, 0, 0, 0, 0]);
            let (needed, region) =
                self.channel().call(Command::DeviceGetRegionInfo, put, &[], info::region)?;
            if needed <= room {
                return Ok(region);
            }
            if needed > 64 << 10 || room > 32 {
                return Err(ClientError::Senseless(Command::DeviceGetRegionInfo));
            }
            room = needed;
        }
    }

    /// Reads a region from a byte on (`VFIO_USER_REGION_READ`), with as many messages as it takes.
    ///
    /// # Errors
    ///
    /// What the device answers; as every call.
    pub fn region_read(
        &self,
        region: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), ClientError> {
        let most = self.most(data.len())?;
        let mut channel = self.channel();
        for (start, len) in pieces(data.len(), most) {
            let access = access(region, offset, start, len);
            let put = |out: &mut Vec<u8>| info::put_access(out, &access);
            channel.call(Command::RegionRead, put, &[], |payload, _| {
                let bytes = payload.get(Access::LEN..).filter(|bytes| bytes.len() == len);
                let into = data.get_mut(start..start + len).ok_or(errno::EIO)?;
                into.copy_from_slice(bytes.ok_or(errno::EIO)?);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes a region from a byte on (`VFIO_USER_REGION_WRITE`), and waits until it is done.
    ///
    /// # Errors
    ///
    /// What the device answers; as every call.
    pub fn region_write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let most = self.most(data.len())?;
        let mut channel = self.channel();
        for (start, len) in pieces(data.len(), most) {
            let access = access(region, offset, start, len);
            let put = |out: &mut Vec<u8>| {
                info::put_access(out, &access);
                out.extend_from_slice(data.get(start..start + len).unwrap_or_default());
            };
            channel.call(Command::RegionWrite, put, &[], |_, _| Ok(()))?;
        }
        Ok(())
    }

    /// Writes a region without waiting for it to be done; errors are not told.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub fn region_post(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let most = self.most(data.len())?;
        let mut channel = self.channel();
        for (start, len) in pieces(data.len(), most) {
            let access = access(region, offset, start, len);
            channel.post(Command::RegionWrite, |out| {
                info::put_access(out, &access);
                out.extend_from_slice(data.get(start..start + len).unwrap_or_default());
            })?;
        }
        Ok(())
    }

    /// Returns how many bytes one message can move, of an access of `len` bytes: what both sides take.
    fn most(&self, len: usize) -> Result<usize, ClientError> {
        let most = self.limits.peer_transfer.min(TRANSFER) as usize;
        if most == 0 && len > 0 {
            return Err(ClientError::TooLong { most, wanted: len });
        }
        Ok(most.max(1))
    }

    /// Does many writes of at most 8 bytes, each a region, an offset and data, up to 200 of them with one
    /// message, or one by one if the server does not take `VFIO_USER_REGION_WRITE_MULTI`. Returns how many
    /// were done.
    ///
    /// # Errors
    ///
    /// `EINVAL` when one is longer; what the device answers to the first; as every call.
    pub fn region_write_multi(&self, writes: &[(u32, u64, &[u8])]) -> Result<u64, ClientError> {
        if !self.limits.peer_write_multiple {
            return self.write_one_by_one(writes);
        }
        let most = self.most(Writes::STRIDE)? / Writes::STRIDE;
        let (mut channel, mut done) = (self.channel(), 0);
        for (start, len) in pieces(writes.len(), most.clamp(1, WRITES)) {
            let part = writes.get(start..start + len).unwrap_or_default();
            let put = |out: &mut Vec<u8>| info::put_writes(out, part);
            let outcome = channel.call(Command::RegionWriteMulti, put, &[], |payload, _| {
                payload.first_chunk().map(|done| u64::from_ne_bytes(*done)).ok_or(errno::EIO)
            });
            match outcome {
                Ok(now) => done += now,
                Err(ClientError::Refused { .. }) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
            if done < (start + len) as u64 {
                break;
            }
        }
        Ok(done)
    }

    fn write_one_by_one(&self, writes: &[(u32, u64, &[u8])]) -> Result<u64, ClientError> {
        let mut done = 0;
        for (region, offset, data) in writes {
            if data.len() > 8 {
                let (command, errno) = (Command::RegionWriteMulti, Errno::EINVAL);
                return if done > 0 {
                    Ok(done)
                } else {
                    Err(ClientError::Refused { command, errno })
                };
            }
            match self.region_write(*region, *offset, data) {
                Ok(()) => done += 1,
                Err(ClientError::Refused { .. }) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Descriptors that stand for accesses to a region (`VFIO_USER_DEVICE_GET_REGION_IO_FDS`).
    ///
    /// # Errors
    ///
    /// As every call; `Senseless` when a part is outside of the region.
    pub fn region_io_fds(&self, region: u32) -> Result<Vec<IoSubRegion>, ClientError> {
        let command = Command::DeviceGetRegionIoFds;
        let size = self.region(region)?.size;
        let mut room = 4096;
        loop {
            let put = |out: &mut Vec<u8>| info::put_words(out, &[room, 0, region, 0]);
            let (needed, parts) = self
                .channel()
                .call(command, put, &[], |payload, fds| info::io_fds(payload, fds, room, size))?;
            if needed <= room {
                return Ok(parts);
            }
            if needed > TRANSFER || room > 4096 {
                return Err(ClientError::Senseless(command));
            }
            room = needed;
        }
    }
}
