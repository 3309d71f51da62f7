//! The commands of the admin queue.

use super::counts::add;
use super::identify;
use super::shared::lock;
use super::worker::{Answer, Worker};
use crate::disk::BLOCK;
use std::sync::Arc;
use vfio_irq_nvme_spec::Status;
use vfio_irq_nvme_spec::opcode::admin as opcode;
use vfio_irq_nvme_spec::{Command, high, low};

/// All namespaces.
pub(crate) const ALL: u32 = u32::MAX;

impl Worker {
    /// Carries out an admin command. Returns `None` if the command completes later.
    pub(crate) fn admin(&mut self, command: &Command) -> Result<Option<u32>, Status> {
        add(&self.shared.common.counters.others, 1);
        if command.is_exotic() {
            return Err(Status::INVALID_FIELD);
        }
        let shared = Arc::clone(&self.shared);
        let mut admin = lock(&shared.admin);
        let admin = &mut *admin;
        let answer = match command.opcode() {
            opcode::DELETE_SUBMISSION => return self.delete_submission(command),
            opcode::CREATE_SUBMISSION => self.create_submission(admin, command),
            opcode::GET_LOG => self.get_log(command),
            opcode::DELETE_COMPLETION => self.delete_completion(command),
            opcode::CREATE_COMPLETION => self.create_completion(admin, command),
            opcode::IDENTIFY => self.identify(command),
            opcode::ABORT => self.abort(command),
            opcode::SET_FEATURES => self.set_feature(admin, command),
            opcode::GET_FEATURES => self.get_feature(admin, command),
            opcode::DOORBELL_BUFFER => self.set_buffers(admin, command),
            opcode::ASYNC_EVENT => return self.ask_for_event(command),
            _ => Err(Status::INVALID_OPCODE),
        };
        answer.map(Some)
    }

    fn ask_for_event(&mut self, command: &Command) -> Result<Option<u32>, Status> {
        if !lock(&self.shared.events).request(command.id()) {
            return Err(Status::TOO_MANY_EVENTS);
        }
        // An Asynchronous Event Request may stay outstanding for long.
        self.shared.release_admin();
        Ok(None)
    }

    /// Aborts a command. Fetched commands run to completion, so only Asynchronous Event Requests
    /// can be aborted.
    fn abort(&mut self, command: &Command) -> Answer {
        let (queue, id) = (low(command.word(10)), high(command.word(10)));
        // Two completions must fit: that of the aborted command, and this one.
        if queue == 0 && self.shared.reserve_admin() {
            let aborted = lock(&self.shared.events).abort(id);
            if aborted {
                self.shared.post(0, id, Err(Status::ABORTED));
                return Ok(0);
            }
            self.shared.release_admin();
        }
        Ok(1)
    }

    fn identify(&mut self, command: &Command) -> Answer {
        let namespace = command.namespace();
        let mut page = [0; 4096];
        match command.word(10) & 0xff {
            0x00 => match namespace {
                1 | ALL => identify::namespace(&mut page, &self.shared.common),
                _ => return Err(Status::INVALID_NAMESPACE),
            },
            0x01 => identify::controller(&mut page, &self.shared.common),
            // Those with a higher number than this one, of which there is at most one.
            0x02 if namespace >= 0xffff_fffe => return Err(Status::INVALID_NAMESPACE),
            0x02 => identify::put(&mut page, 0, &u32::from(namespace == 0).to_le_bytes()),
            0x03 => match namespace {
                1 => identify::descriptors(&mut page, &self.shared.common),
                _ => return Err(Status::INVALID_NAMESPACE),
            },
            // Newer controllers report these structures for the NVM command set. All fields are
            // zero. Linux requests them all, and an error would fill the error log.
            0x05 | 0x06 if command.word(11) >> 24 != 0 => return Err(Status::INVALID_FIELD),
            0x05 if namespace != 1 => return Err(Status::INVALID_NAMESPACE),
            0x05 | 0x06 => {}
            _ => return Err(Status::INVALID_FIELD),
        }
        self.give(command, &page).map(|()| 0)
    }

    /// Bytes of so many blocks, if all of them exist.
    pub(crate) fn range(&self, start: u64, blocks: u64) -> Result<(u64, u64), Status> {
        let end = start.checked_add(blocks).ok_or(Status::LBA_RANGE)?;
        if end > self.shared.common.disk.blocks() {
            return Err(Status::LBA_RANGE);
        }
        Ok((start * BLOCK, blocks * BLOCK))
    }
}
