//! Queues come and go.

use super::queue::{Completion, Submission};
use super::registers::MOST_ENTRIES;
use super::worker::{Answer, Worker};
use crate::command::{Command, high, low};
use crate::status::Status;

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
        let place = self.completions.get_mut(id).ok_or(Status::QUEUE_ID)?;
        *place = Some(Completion::new(base, entries, vector));
        Ok(0)
    }

    pub(super) fn create_submission(&mut self, command: &Command) -> Answer {
        let id = low(command.word(10));
        let place = usize::from(id);
        let taken = self.submissions.get(place).is_some_and(Option::is_some);
        let (base, entries) = self.new_queue(command, taken)?;
        let target = high(command.word(11));
        let queue = self.completions.get_mut(usize::from(target)).filter(|_| target != 0);
        let queue = queue.and_then(Option::as_mut).ok_or(Status::COMPLETION_QUEUE)?;
        let place = self.submissions.get_mut(place).ok_or(Status::QUEUE_ID)?;
        queue.users.push(id);
        *place = Some(Submission::new(base, entries, target));
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
