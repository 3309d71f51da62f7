//! Queues come and go.

use super::queue::{Completion, Submission};
use super::registers::MOST_ENTRIES;
use super::shadow::{Buffers, Doorbell};
use super::worker::{Answer, Worker};
use crate::command::{Command, high, low};
use crate::status::Status;
use vfio_irq_user::Errno;

impl Worker {
    /// Number and size of a queue to be created: its number is free, its pages are where they may be.
    fn new_queue(&self, command: &Command, taken: bool) -> Result<(u64, u32), Status> {
        let id = low(command.word(10));
        if id == 0 || id > self.granted || taken {
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
        if !base.is_multiple_of(u64::from(self.page)) {
            return Err(Status::PRP_OFFSET);
        }
        Ok((base, entries))
    }

    pub(super) fn create_completion(&mut self, command: &Command) -> Answer {
        let id = usize::from(low(command.word(10)));
        let taken = self.completions.get(id).is_some_and(Option::is_some);
        let (base, entries) = self.new_queue(command, taken)?;
        let vector = high(command.word(11));
        if vector > self.common.queues {
            return Err(Status::VECTOR);
        }
        let wanted = command.word(11) & 2 != 0;
        let vector = wanted.then_some(u32::from(vector));
        let mut queue = Completion::new(base, entries, vector);
        if let Some(buffers) = self.buffers {
            let memory = &self.common.bus.memory;
            let doorbell = queue.place_doorbell(buffers, memory, low(command.word(10)));
            queue.set_doorbell(doorbell.map_err(|_| Status::INVALID_FIELD)?);
        }
        let place = self.completions.get_mut(id).ok_or(Status::QUEUE_ID)?;
        *place = Some(queue);
        Ok(0)
    }

    pub(super) fn create_submission(&mut self, command: &Command) -> Answer {
        let id = low(command.word(10));
        let place = usize::from(id);
        let taken = self.submissions.get(place).is_some_and(Option::is_some);
        let (base, entries) = self.new_queue(command, taken)?;
        let target = high(command.word(11));
        let mut new = Submission::new(base, entries, target);
        let queue = self.completions.get_mut(usize::from(target)).filter(|_| target != 0);
        let queue = queue.and_then(Option::as_mut).ok_or(Status::COMPLETION_QUEUE)?;
        let place = self.submissions.get_mut(place).ok_or(Status::QUEUE_ID)?;
        if let Some(buffers) = self.buffers {
            let doorbell = new.place_doorbell(buffers, &self.common.bus.memory, id);
            new.set_doorbell(doorbell.map_err(|_| Status::INVALID_FIELD)?);
        }
        queue.users.push(id);
        *place = Some(new);
        Ok(0)
    }

    /// Doorbell Buffer Config: from now on doorbells are in memory, those of the queues that are there
    /// and of those to come.
    pub(super) fn set_buffers(&mut self, command: &Command) -> Answer {
        let memory = &self.common.bus.memory;
        let buffers = Buffers::new(memory, self.page, command.prp1(), command.prp2());
        let buffers = buffers.ok_or(Status::INVALID_FIELD)?;
        // All of them, or none.
        let place = |doorbell: Option<Result<Doorbell, Errno>>| doorbell.transpose();
        let tails = (0..).zip(&mut self.submissions).map(|(id, queue)| {
            place(queue.as_mut().map(|queue| queue.place_doorbell(buffers, memory, id)))
        });
        let tails = tails.collect::<Result<Vec<_>, _>>().map_err(|_| Status::INVALID_FIELD)?;
        let heads = (0..).zip(&mut self.completions).map(|(id, queue)| {
            place(queue.as_mut().map(|queue| queue.place_doorbell(buffers, memory, id)))
        });
        let heads = heads.collect::<Result<Vec<_>, _>>().map_err(|_| Status::INVALID_FIELD)?;
        for (queue, doorbell) in
            self.submissions.iter_mut().flatten().zip(tails.into_iter().flatten())
        {
            queue.set_doorbell(doorbell);
        }
        for (queue, doorbell) in
            self.completions.iter_mut().flatten().zip(heads.into_iter().flatten())
        {
            queue.set_doorbell(doorbell);
        }
        self.buffers = Some(buffers);
        Ok(0)
    }

    pub(super) fn delete_submission(&mut self, command: &Command) -> Answer {
        let id = low(command.word(10));
        let place = self.submissions.get_mut(usize::from(id)).filter(|_| id != 0);
        let queue = place.and_then(Option::take).ok_or(Status::QUEUE_ID)?;
        // Every command that was fetched is complete. What remains of the queue is a turn that finds
        // nothing, or a new queue.
        let target = self.completions.get_mut(usize::from(queue.completion));
        if let Some(target) = target.and_then(Option::as_mut) {
            target.users.retain(|user| *user != id);
        }
        Ok(0)
    }

    pub(super) fn delete_completion(&mut self, command: &Command) -> Answer {
        let id = low(command.word(10));
        let place = self.completions.get_mut(usize::from(id)).filter(|_| id != 0);
        let place = place.filter(|place| place.is_some()).ok_or(Status::QUEUE_ID)?;
        if place.as_ref().is_some_and(|queue| !queue.users.is_empty()) {
            return Err(Status::QUEUE_DELETION);
        }
        *place = None;
        Ok(0)
    }
}
