//! The commands of the I/O queues.

use crate::Answer;
use crate::Common;
use crate::counts::add;
use crate::data::Data;
use crate::disk::BLOCK;
use crate::identify::{MOST_PAGES, is_ours};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use vfio_irq_nvme_spec::opcode::io as opcode;
use vfio_irq_nvme_spec::{Command, Status, low};
use vfio_irq_user::{Errno, errno};

/// The disk, as I/O commands use it.
pub(crate) struct Io {
    common: Arc<Common>,
    /// The volatile write cache is enabled: writes need not survive a power loss before a flush.
    pub(crate) write_cache: bool,
}

impl Io {
    pub(crate) fn new(common: Arc<Common>) -> Self {
        Self { common, write_cache: true }
    }

    /// Carries out an I/O command. Returns the first word of its completion, or an error status.
    pub(crate) fn run(&self, data: &mut Data, command: &Command) -> Answer {
        let opcode = command.opcode();
        let counters = &self.common.counters;
        let counter: &AtomicU64 = match opcode {
            opcode::READ => &counters.reads,
            opcode::WRITE => &counters.writes,
            opcode::FLUSH => &counters.flushes,
            _ => &counters.others,
        };
        add(counter, 1);
        if command.is_exotic() {
            return Err(Status::INVALID_FIELD);
        }
        let namespace = command.namespace();
        if namespace != 1 && !(opcode == opcode::FLUSH && is_ours(namespace)) {
            return Err(Status::INVALID_NAMESPACE);
        }
        match opcode {
            opcode::FLUSH => self.flush(),
            opcode::WRITE => self.write(data, command),
            opcode::READ => self.read(data, command),
            opcode::WRITE_ZEROES => self.write_zeroes(command),
            opcode::DATASET_MANAGEMENT => self.manage_dataset(data, command),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// Makes all writes durable.
    pub(crate) fn flush(&self) -> Answer {
        self.common.disk.flush().map(|()| 0).map_err(|_| Status::WRITE_FAULT)
    }

    /// Returns the byte offset and the length of `blocks` blocks, if the disk has them all.
    fn range(&self, start: u64, blocks: u64) -> Result<(u64, u64), Status> {
        let end = start.checked_add(blocks).ok_or(Status::LBA_RANGE)?;
        if end > self.common.disk.blocks() {
            return Err(Status::LBA_RANGE);
        }
        Ok((start * BLOCK, blocks * BLOCK))
    }

    /// Returns the byte offset and the length of the blocks of a command.
    fn blocks(&self, command: &Command) -> Result<(u64, u64), Status> {
        self.range(command.wide(10), u64::from(low(command.word(12))) + 1)
    }

    /// As [`Io::blocks`], for a command that transfers them.
    fn transfer(&self, command: &Command) -> Result<(u64, usize), Status> {
        let (offset, len) = self.blocks(command)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= 4096 << MOST_PAGES);
        Ok((offset, len.ok_or(Status::INVALID_FIELD)?))
    }

    fn read(&self, data: &mut Data, command: &Command) -> Answer {
        let (offset, len) = self.transfer(command)?;
        // A read with FUA must return data from the medium, so writes are flushed first.
        if is_forced(command) {
            self.flush()?;
        }
        data.each_segment(command, len, |common, segment, at| {
            let (memory, file) = (&common.bus.memory, common.disk.file());
            memory
                .fill_from(segment.address, segment.len, file, offset + at as u64)
                .map_err(|error| failure(error, Status::READ_ERROR))
        })?;
        add(&self.common.counters.read_blocks, len as u64 / BLOCK);
        Ok(0)
    }

    fn write(&self, data: &mut Data, command: &Command) -> Answer {
        let (offset, len) = self.transfer(command)?;
        data.each_segment(command, len, |common, segment, at| {
            let (memory, file) = (&common.bus.memory, common.disk.file());
            memory
                .drain_to(segment.address, segment.len, file, offset + at as u64)
                .map_err(|error| failure(error, Status::WRITE_FAULT))
        })?;
        add(&self.common.counters.written_blocks, len as u64 / BLOCK);
        self.make_durable(command)
    }

    /// Makes a write durable before it completes, if the guest requests it (FUA, or no write
    /// cache).
    fn make_durable(&self, command: &Command) -> Answer {
        if is_forced(command) || !self.write_cache { self.flush() } else { Ok(0) }
    }

    fn write_zeroes(&self, command: &Command) -> Answer {
        let (offset, len) = self.blocks(command)?;
        let hole = command.word(12) >> 25 & 1 != 0;
        let done = self.common.disk.zero(offset, len, hole);
        done.map_err(|error| failure(raw(error), Status::WRITE_FAULT))?;
        self.make_durable(command)
    }

    /// Deallocates ranges of blocks. Other attributes of Dataset Management are hints and have no
    /// effect.
    fn manage_dataset(&self, data: &mut Data, command: &Command) -> Answer {
        let ranges = usize::from(command.word(10).to_le_bytes()[0]) + 1;
        if command.word(11) >> 2 & 1 == 0 {
            return Ok(0);
        }
        let mut bytes = [0; 16 * 256];
        let bytes = bytes.get_mut(..16 * ranges).ok_or(Status::INVALID_FIELD)?;
        data.take(command, bytes)?;
        // All ranges are checked before the first is deallocated.
        let mut checked = Vec::with_capacity(ranges);
        for range in bytes.as_chunks::<16>().0 {
            let range = u128::from_le_bytes(*range);
            // Attributes, the number of blocks, the first one.
            let [_, a, b, c] = [0, 32, 64, 96].map(|at| u64::try_from(range >> at & 0xffff_ffff));
            let (Ok(blocks), Ok(low), Ok(high)) = (a, b, c) else { continue };
            checked.push(self.range(low | high << 32, blocks)?);
        }
        for (offset, len) in checked {
            let done = self.common.disk.deallocate(offset, len);
            done.map_err(|error| failure(raw(error), Status::WRITE_FAULT))?;
        }
        Ok(0)
    }
}

/// FUA (force unit access).
fn is_forced(command: &Command) -> bool {
    command.word(12) >> 30 & 1 != 0
}

fn raw(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// Maps an errno to the status of guest memory, of a full file system, or of the medium.
fn failure(error: Errno, medium: Status) -> Status {
    match error {
        Errno::EFAULT | errno::EACCES | errno::ENOTCONN | errno::ECANCELED | errno::ETIMEDOUT => {
            Status::DATA_TRANSFER
        }
        Errno::ENOSPC => Status::CAPACITY,
        _ => medium,
    }
}
