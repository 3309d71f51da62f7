//! The commands of the admin queue.

use crate::Answer;
use crate::counts::add;
use crate::identify::{self, ALL};
use crate::logs;
use crate::state::State;
use vfio_irq_nvme_spec::opcode::admin as opcode;
use vfio_irq_nvme_spec::{Command, Status, high, low};

impl State {
    /// Carries out an admin command. Returns `None` if the command completes later.
    pub(crate) fn admin(&mut self, command: &Command) -> Result<Option<u32>, Status> {
        add(&self.common.counters.others, 1);
        if command.is_exotic() {
            return Err(Status::INVALID_FIELD);
        }
        let (bus, granted) = (&self.common.bus, self.granted);
        let answer = match command.opcode() {
            opcode::DELETE_SUBMISSION => self.queues.delete_submission(command),
            opcode::CREATE_SUBMISSION => {
                let created = self.queues.create_submission(command, granted, &bus.memory);
                self.cleared(created, 2 * usize::from(low(command.word(10))))
            }
            opcode::GET_LOG => self.get_log(command),
            opcode::DELETE_COMPLETION => self.queues.delete_completion(command, &bus.interrupts),
            opcode::CREATE_COMPLETION => {
                let vectors = self.common.queues;
                let created = self.queues.create_completion(command, granted, vectors, &bus.memory);
                self.cleared(created, 2 * usize::from(low(command.word(10))) + 1)
            }
            opcode::IDENTIFY => self.identify(command),
            opcode::ABORT => self.abort(command),
            opcode::SET_FEATURES => self.set_feature(command),
            opcode::GET_FEATURES => self.features.get(command, self.granted, self.io.write_cache),
            opcode::DOORBELL_BUFFER => self.set_buffers(command),
            opcode::ASYNC_EVENT => return self.request_event(command),
            _ => Err(Status::INVALID_OPCODE),
        };
        answer.map(Some)
    }

    /// Clears the doorbell of a queue that was created: earlier writes were for an old queue.
    fn cleared(&self, created: Answer, place: usize) -> Answer {
        created.inspect(|_| self.clear_doorbell(place))
    }

    fn request_event(&mut self, command: &Command) -> Result<Option<u32>, Status> {
        if !self.events.request(command.id()) {
            return Err(Status::TOO_MANY_EVENTS);
        }
        // An Asynchronous Event Request may stay outstanding for long.
        self.queues.release_admin();
        Ok(None)
    }

    fn set_feature(&mut self, command: &Command) -> Answer {
        if let Some(on) = self.features.write_cache(command) {
            // Later writes are durable by themselves. The flush covers earlier ones.
            self.io.write_cache = on;
            return if on { Ok(0) } else { self.io.flush() };
        }
        let has_queues = self.queues.has_io_queues();
        self.features.set(command, &mut self.granted, has_queues)
    }

    fn set_buffers(&mut self, command: &Command) -> Answer {
        match self.queues.set_buffers(command, &self.common.bus.memory) {
            Ok(()) => {
                tracing::debug!(serial = %self.common.serial, "the guest has doorbells in its memory");
                Ok(0)
            }
            Err((status, problem)) => {
                problem.into_iter().for_each(|problem| self.report(problem));
                Err(status)
            }
        }
    }

    fn get_log(&mut self, command: &Command) -> Answer {
        let bytes = logs::read(command, &self.errors, &self.common)?;
        self.data.give(command, &bytes)?;
        if logs::clears_events(command) {
            self.events.rearm();
        }
        Ok(0)
    }

    /// Aborts a command. Fetched commands run to completion, so only Asynchronous Event Requests
    /// can be aborted.
    fn abort(&mut self, command: &Command) -> Answer {
        let (queue, id) = (low(command.word(10)), high(command.word(10)));
        // Two completions must fit: that of the aborted command, and this one.
        if queue == 0 && self.reserve_admin() {
            if self.events.abort(id) {
                self.post(0, id, Err(Status::ABORTED));
                return Ok(0);
            }
            self.queues.release_admin();
        }
        Ok(1)
    }

    fn identify(&mut self, command: &Command) -> Answer {
        let namespace = command.namespace();
        let mut page = [0; 4096];
        match command.word(10) & 0xff {
            0x00 => match namespace {
                1 | ALL => identify::namespace(&mut page, &self.common),
                _ => return Err(Status::INVALID_NAMESPACE),
            },
            0x01 => identify::controller(&mut page, &self.common),
            // Those with a higher number than this one, of which there is at most one.
            0x02 if namespace >= 0xffff_fffe => return Err(Status::INVALID_NAMESPACE),
            0x02 => identify::put(&mut page, 0, &u32::from(namespace == 0).to_le_bytes()),
            0x03 => match namespace {
                1 => identify::descriptors(&mut page, &self.common),
                _ => return Err(Status::INVALID_NAMESPACE),
            },
            // Newer controllers report these structures for the NVM command set. All fields are
            // zero. Linux requests them all, and an error would fill the error log.
            0x05 | 0x06 if command.word(11) >> 24 != 0 => return Err(Status::INVALID_FIELD),
            0x05 if namespace != 1 => return Err(Status::INVALID_NAMESPACE),
            0x05 | 0x06 => {}
            _ => return Err(Status::INVALID_FIELD),
        }
        self.data.give(command, &page).map(|()| 0)
    }
}
