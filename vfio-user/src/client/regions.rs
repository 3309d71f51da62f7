//! The regions of a device.

use super::channel::{Channel, TRANSFER};
use super::{Client, ClientError, IoSubRegion, Region, info};
use crate::errno;
use crate::wire::layout::{self, len32, put, take};
use crate::wire::{Access, Command, Writes};
use vfio_irq_engine::Errno;

/// The limit of writes per message, as in QEMU.
const WRITES: usize = 200;

/// Splits `len` into parts of at most `most`. Returns the start and the length of each; at least
/// one part, which may be empty.
fn pieces(len: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let last = len.saturating_sub(1) / most * most;
    (0..=last).step_by(most).map(move |start| (start, most.min(len - start)))
}

/// Returns a part of an access. The server refuses an overflow.
fn access(region: u32, offset: u64, start: usize, len: usize) -> Access {
    Access { offset: offset.saturating_add(start as u64), region, count: len32(len) }
}

impl Client {
    /// Returns the size, flags and mapping of a region (`VFIO_USER_DEVICE_GET_REGION_INFO`).
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if the region does not exist.
    pub fn region(&self, index: u32) -> Result<Region, ClientError> {
        self.with_room(Command::DeviceGetRegionInfo, 32, 64 << 10, |room, channel| {
            let info = layout::RegionInfo { argsz: room, index, ..Default::default() };
            channel.call(Command::DeviceGetRegionInfo, |out| put(out, &info), &[], info::region)
        })
    }

    /// Asks with `room` bytes for the reply. If the server needs more, at most `most`, asks once more.
    /// `ask` returns the needed bytes and the value.
    fn with_room<T>(
        &self,
        command: Command,
        room: u32,
        most: u32,
        ask: impl Fn(u32, &mut Channel) -> Result<(u32, T), ClientError>,
    ) -> Result<T, ClientError> {
        let (needed, value) = ask(room, &mut self.channel())?;
        if needed <= room {
            return Ok(value);
        }
        if needed <= most {
            let (again, value) = ask(needed, &mut self.channel())?;
            if again <= needed {
                return Ok(value);
            }
        }
        Err(ClientError::Senseless(command))
    }

    /// Reads a region at `offset` (`VFIO_USER_REGION_READ`). Splits long reads into several
    /// messages.
    ///
    /// # Errors
    ///
    /// Returns the errno of the device, or an error if the connection has ended.
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
            let asked = |out: &mut Vec<u8>| put(out, &access);
            channel.call(Command::RegionRead, asked, &[], |payload, _| {
                let bytes = payload.get(Access::LEN..).filter(|bytes| bytes.len() == len);
                let into = data.get_mut(start..start + len).ok_or(errno::EIO)?;
                into.copy_from_slice(bytes.ok_or(errno::EIO)?);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes a region at `offset` (`VFIO_USER_REGION_WRITE`), and waits for the reply.
    ///
    /// # Errors
    ///
    /// Returns the errno of the device, or an error if the connection has ended.
    pub fn region_write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        self.write_with(region, offset, data, |channel, put| {
            channel.call(Command::RegionWrite, put, &[], |_, _| Ok(()))
        })
    }

    /// Writes a region without a reply (posted); errors of the device are lost.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has ended.
    pub fn region_post(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        self.write_with(region, offset, data, |channel, put| {
            channel.post(Command::RegionWrite, put)
        })
    }

    /// Calls `send` for the payload of each message that the write takes.
    fn write_with(
        &self,
        region: u32,
        offset: u64,
        data: &[u8],
        send: impl Fn(&mut Channel, &dyn Fn(&mut Vec<u8>)) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let most = self.most(data.len())?;
        let mut channel = self.channel();
        for (start, len) in pieces(data.len(), most) {
            send(&mut channel, &|out| {
                put(out, &access(region, offset, start, len));
                out.extend_from_slice(data.get(start..start + len).unwrap_or_default());
            })?;
        }
        Ok(())
    }

    /// Returns the data limit per message of both sides, for an access of `len` bytes.
    fn most(&self, len: usize) -> Result<usize, ClientError> {
        let most = self.limits.peer_transfer.min(TRANSFER) as usize;
        if most == 0 && len > 0 {
            return Err(ClientError::TooLong { most, wanted: len });
        }
        Ok(most.max(1))
    }

    /// Carries out several writes of at most 8 bytes, each with region, offset and data. Uses
    /// `VFIO_USER_REGION_WRITE_MULTI` with up to 200 writes per message if the server supports it.
    /// Returns how many writes were carried out.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if a write is longer than 8 bytes, and the errno of the device if the first
    /// write fails.
    pub fn region_write_multi(&self, writes: &[(u32, u64, &[u8])]) -> Result<u64, ClientError> {
        if !self.limits.peer_write_multiple {
            return self.write_one_by_one(writes);
        }
        let most = self.most(Writes::STRIDE)? / Writes::STRIDE;
        let (mut channel, mut done) = (self.channel(), 0);
        for (start, len) in pieces(writes.len(), most.clamp(1, WRITES)) {
            let part = writes.get(start..start + len).unwrap_or_default();
            let asked = |out: &mut Vec<u8>| info::put_writes(out, part);
            let outcome = channel.call(Command::RegionWriteMulti, asked, &[], |mut payload, _| {
                take::<u64>(&mut payload)
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

    /// Returns the sub-regions with descriptors (`VFIO_USER_DEVICE_GET_REGION_IO_FDS`).
    ///
    /// # Errors
    ///
    /// Returns `Senseless` if a sub-region is outside the region.
    pub fn region_io_fds(&self, region: u32) -> Result<Vec<IoSubRegion>, ClientError> {
        let command = Command::DeviceGetRegionIoFds;
        let size = self.region(region)?.size;
        self.with_room(command, 4096, TRANSFER, |room, channel| {
            let asked = |out: &mut Vec<u8>| put(out, &[room, 0, region, 0]);
            let read = |payload: &[u8], fds: &mut Vec<_>| info::io_fds(payload, fds, room, size);
            channel.call(command, asked, &[], read)
        })
    }
}
