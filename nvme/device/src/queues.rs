//! Creates and deletes queues.

use super::queue::{Completion, Submission};
use super::registers::MOST_ENTRIES;
use super::shadow_doorbells::Buffers;
use super::shared::{Admin, DOORBELLS};
use super::worker::{Answer, Worker};
use vfio_irq_nvme_spec::Status;
use vfio_irq_nvme_spec::{Command, high, low};
use vfio_irq_user::Errno;

impl Worker {
    /// Number and size of a queue to be created: its number is free, its pages are where they may be.
    fn new_queue(
        &self,
        admin: &Admin,
        command: &Command,
        taken: bool,
    ) -> Result<(u64, u32), Status> {
        let id = low(command.word(10));
        if id == 0 || id > admin.granted || taken {
            return Err(Status::QUEUE_ID);
        }
        let entries = u32::from(high(command.word(10))) + 1;
        if !(2..=MOST_ENTRIES).contains(&entries) {
            return Err(Status::QUEUE_SIZE);
        }
        let contiguous = command.word(11) & 1 != 0;
        if !contiguous {
            return Err(Status::INVALID_FIELD);
        }
        let base = command.prp1();
        if !base.is_multiple_of(u64::from(self.shared.page)) {
            return Err(Status::PRP_OFFSET);
        }
        Ok((base, entries))
    }

    pub(crate) fn create_completion(&self, admin: &Admin, command: &Command) -> Answer {
        let id = low(command.word(10));
        let mut place = self.shared.completion(id).ok_or(Status::QUEUE_ID)?;
        let (base, entries) = self.new_queue(admin, command, place.is_some())?;
        let vector = high(command.word(11));
        if vector > self.shared.common.queues {
            return Err(Status::VECTOR);
        }
        let wanted = command.word(11) & 2 != 0;
        let mut queue = Completion::new(base, entries, wanted.then_some(u32::from(vector)));
        if let Some(buffers) = admin.buffers {
            let moved = queue.move_doorbell(buffers, &self.shared.common.bus.memory, id);
            moved.map_err(|_| Status::INVALID_FIELD)?;
        }
        self.shared.run.clear(2 * usize::from(id) + 1);
        *place = Some(queue);
        Ok(0)
    }

    pub(crate) fn create_submission(&self, admin: &Admin, command: &Command) -> Answer {
        let id = low(command.word(10));
        let mut place = self.shared.submission(id).ok_or(Status::QUEUE_ID)?;
        let (base, entries) = self.new_queue(admin, command, place.is_some())?;
        let target = high(command.word(11));
        let completion = self.shared.completion(target).filter(|_| target != 0);
        let mut completion = completion.ok_or(Status::COMPLETION_QUEUE)?;
        let completion = completion.as_mut().ok_or(Status::COMPLETION_QUEUE)?;
        let mut queue = Submission::new(base, entries, target);
        if let Some(buffers) = admin.buffers {
            let moved = queue.move_doorbell(buffers, &self.shared.common.bus.memory, id);
            moved.map_err(|_| Status::INVALID_FIELD)?;
        }
        self.shared.run.clear(2 * usize::from(id));
        completion.users.push(id);
        *place = Some(queue);
        Ok(0)
    }

    /// Commands that were fetched go to their end first. What remains of a queue then is a turn that
    /// finds nothing, or a new queue.
    pub(crate) fn delete_submission(&self, command: &Command) -> Result<Option<u32>, Status> {
        let id = low(command.word(10));
        let mut place = self.shared.submission(id).filter(|_| id != 0).ok_or(Status::QUEUE_ID)?;
        let queue = place.as_mut().filter(|queue| !queue.is_leaving()).ok_or(Status::QUEUE_ID)?;
        if !queue.leave(command.id()) {
            return Ok(None);
        }
        let completion = queue.completion;
        *place = None;
        drop(place);
        self.shared.forget_user(completion, id);
        Ok(Some(0))
    }

    pub(crate) fn delete_completion(&self, command: &Command) -> Answer {
        let id = low(command.word(10));
        let mut place = self.shared.completion(id).filter(|_| id != 0).ok_or(Status::QUEUE_ID)?;
        let queue = place.as_mut().ok_or(Status::QUEUE_ID)?;
        if !queue.users.is_empty() {
            return Err(Status::QUEUE_DELETION);
        }
        // Signals posted completions, before the vector goes.
        if let Some(vector) = queue.owed() {
            self.shared.common.bus.interrupts.raise(vector);
        }
        *place = None;
        Ok(0)
    }

    /// Doorbell Buffer Config: from now on doorbells are in memory, those of the queues that are there
    /// and of those to come.
    pub(crate) fn set_buffers(&self, admin: &mut Admin, command: &Command) -> Answer {
        let memory = &self.shared.common.bus.memory;
        let (doorbells, events) = (command.prp1(), command.prp2());
        let buffers = Buffers::new(memory, self.shared.page, doorbells, events);
        let buffers = buffers.ok_or(Status::INVALID_FIELD)?;
        for id in 0..=self.shared.common.queues {
            let moved = self.move_doorbells(buffers, id);
            if let Err(why) = moved {
                // Of the first queue nothing is moved yet.
                if id > 0 {
                    self.shared.fail(DOORBELLS, why);
                }
                return Err(Status::INVALID_FIELD);
            }
        }
        admin.buffers = Some(buffers);
        tracing::debug!(serial = %self.shared.common.serial, "the guest has doorbells in its memory");
        Ok(0)
    }

    fn move_doorbells(&self, buffers: Buffers, id: u16) -> Result<(), Errno> {
        let memory = &self.shared.common.bus.memory;
        if let Some(mut place) = self.shared.submission(id)
            && let Some(queue) = place.as_mut()
        {
            queue.move_doorbell(buffers, memory, id)?;
        }
        if let Some(mut place) = self.shared.completion(id)
            && let Some(queue) = place.as_mut()
        {
            queue.move_doorbell(buffers, memory, id)?;
            let users = queue.waiting_users();
            drop(place);
            users.into_iter().for_each(|user| self.shared.enqueue(user));
        }
        Ok(())
    }
}
