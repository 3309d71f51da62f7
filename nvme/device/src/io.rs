//! The commands of the I/O queues.

use super::counts::add;
use super::identify::{MOST_PAGES, is_ours};
use super::lba_locks::LbaLock;
use super::shared::Shared;
use super::worker::{Answer, Worker};
use crate::disk::BLOCK;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vfio_irq_nvme_spec::Status;
use vfio_irq_nvme_spec::opcode::io as opcode;
use vfio_irq_nvme_spec::{Command, low};
use vfio_irq_user::{Errno, errno};

/// Transfers of this size or more take long enough that another worker should look for work, even
/// in memory.
const LONG: u64 = 512 << 10;

/// Transfers up to this size are copied once more if that saves a wake-up.
const SHORT: u64 = 32 << 10;

/// The direction of a transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToGuest,
    FromGuest,
}

impl Worker {
    /// Carries out an I/O command. Returns the first word of its completion, or an error status.
    pub(crate) fn io(&mut self, command: &Command) -> Answer {
        let opcode = command.opcode();
        let counters = &self.shared.common.counters;
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
            opcode::WRITE => self.transfer(command, Direction::FromGuest),
            opcode::READ => self.transfer(command, Direction::ToGuest),
            opcode::WRITE_ZEROES => self.write_zeroes(command),
            opcode::DATASET_MANAGEMENT => self.manage_dataset(command),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    fn flush(&mut self) -> Answer {
        if self.shared.common.disk.may_wait() {
            self.step_aside();
        }
        self.shared.common.disk.flush().map(|()| 0).map_err(|_| Status::WRITE_FAULT)
    }

    /// First byte and bytes of a command that has its blocks where all of them do.
    fn blocks(&self, command: &Command) -> Result<(u64, u64), Status> {
        self.range(command.wide(10), u64::from(low(command.word(12))) + 1)
    }

    fn transfer(&mut self, command: &Command, direction: Direction) -> Answer {
        let (offset, len) = self.blocks(command)?;
        let bytes = usize::try_from(len).map_err(|_| Status::INVALID_FIELD)?;
        if bytes > 4096 << MOST_PAGES {
            return Err(Status::INVALID_FIELD);
        }
        let shared = Arc::clone(&self.shared);
        if direction == Direction::ToGuest && self.read_now(command, offset, len)? {
            return Ok(0);
        }
        if shared.common.disk.may_wait() || len >= LONG {
            self.step_aside();
        }
        // A read with FUA must return data from the medium, so writes are flushed first.
        if direction == Direction::ToGuest && is_forced(command) {
            self.flush()?;
        }
        let held = self.hold(&shared, offset, len, direction == Direction::FromGuest);
        self.each_segment(command, bytes, |shared, segment, at| {
            let (memory, file) = (&shared.common.bus.memory, shared.common.disk.file());
            let (address, len, position) = (segment.address, segment.len, offset + at as u64);
            match direction {
                Direction::ToGuest => memory
                    .fill_from(address, len, file, position)
                    .map_err(|error| failure(error, Status::READ_ERROR)),
                Direction::FromGuest => memory
                    .drain_to(address, len, file, position)
                    .map_err(|error| failure(error, Status::WRITE_FAULT)),
            }
        })?;
        drop(held);
        let counters = &shared.common.counters;
        match direction {
            Direction::ToGuest => add(&counters.read_blocks, len / BLOCK),
            Direction::FromGuest => {
                add(&counters.written_blocks, len / BLOCK);
                self.settle(command)?;
            }
        }
        Ok(0)
    }

    /// Reads a short range without blocking. Returns true on success.
    fn read_now(&mut self, command: &Command, offset: u64, len: u64) -> Result<bool, Status> {
        let shared = Arc::clone(&self.shared);
        let disk = &shared.common.disk;
        if !disk.may_wait() || len > SHORT || is_forced(command) {
            return Ok(false);
        }
        let Some(_held) = shared.lba_locks.try_hold(offset, len, false) else { return Ok(false) };
        let bytes = usize::try_from(len).map_err(|_| Status::INVALID_FIELD)?;
        let mut copy = std::mem::take(&mut self.copy);
        copy.resize(bytes, 0);
        let there = disk.read_now(&mut copy, offset);
        let given = if there { self.give(command, &copy) } else { Ok(()) };
        self.copy = copy;
        given?;
        if there {
            add(&shared.common.counters.read_blocks, len / BLOCK);
        }
        Ok(there)
    }

    /// Locks the blocks for this command. Waits for conflicting commands.
    fn hold<'s>(&mut self, shared: &'s Shared, start: u64, len: u64, writes: bool) -> LbaLock<'s> {
        shared.lba_locks.try_hold(start, len, writes).unwrap_or_else(|| {
            self.step_aside();
            shared.lba_locks.hold(start, len, writes)
        })
    }

    /// Makes a write durable before it completes, if the guest requests it (FUA, or no write
    /// cache).
    fn settle(&mut self, command: &Command) -> Result<(), Status> {
        let cached = self.shared.write_cache.load(Ordering::Acquire);
        if is_forced(command) || !cached { self.flush().map(drop) } else { Ok(()) }
    }

    fn write_zeroes(&mut self, command: &Command) -> Answer {
        let (offset, len) = self.blocks(command)?;
        let hole = command.word(12) >> 25 & 1 != 0;
        let shared = Arc::clone(&self.shared);
        self.step_aside();
        let held = self.hold(&shared, offset, len, true);
        let done = shared.common.disk.zero(offset, len, hole);
        drop(held);
        done.map_err(|error| failure(raw(error), Status::WRITE_FAULT))?;
        self.settle(command).map(|()| 0)
    }

    /// Deallocates ranges of blocks. Other attributes of Dataset Management are hints and have no
    /// effect.
    fn manage_dataset(&mut self, command: &Command) -> Answer {
        let ranges = usize::from(command.word(10).to_le_bytes()[0]) + 1;
        if command.word(11) >> 2 & 1 == 0 {
            return Ok(0);
        }
        let mut bytes = [0; 16 * 256];
        let bytes = bytes.get_mut(..16 * ranges).ok_or(Status::INVALID_FIELD)?;
        self.take(command, bytes)?;
        let mut checked = Vec::with_capacity(ranges);
        for range in bytes.as_chunks::<16>().0 {
            let range = u128::from_le_bytes(*range);
            // Attributes, the number of blocks, the first one.
            let [_, a, b, c] = [0, 32, 64, 96].map(|at| u64::try_from(range >> at & 0xffff_ffff));
            let (Ok(blocks), Ok(low), Ok(high)) = (a, b, c) else { continue };
            checked.push(self.range(low | high << 32, blocks)?);
        }
        let shared = Arc::clone(&self.shared);
        self.step_aside();
        for (offset, len) in checked {
            let _held = self.hold(&shared, offset, len, true);
            let done = shared.common.disk.deallocate(offset, len);
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
