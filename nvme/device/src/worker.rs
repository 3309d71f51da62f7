//! A worker of an enabled controller. It fetches commands, carries them out one by one, and posts
//! the completions.

use super::events::Event;
use super::shadow_doorbells::Found;
use super::shared::{DOORBELLS, Shared, lock};
use crate::prp::{self, Segment};
use std::sync::Arc;
use tracing::{debug, warn};
use vfio_irq_nvme_spec::Command;
use vfio_irq_nvme_spec::Status;

/// Commands of one queue before the next queue is served and the completions are signalled.
const BURST: usize = 8;

/// The result of a command: the first word of its completion, or an error status.
pub(crate) type Answer = Result<u32, Status>;

/// The result of serving a queue.
enum Turn {
    /// The queue may have more commands.
    More,
    /// The queue has no commands, no room for completions, is deleted, or is left to another
    /// worker.
    Over,
}

/// A fetched command. A completion queue entry is reserved for it.
#[derive(Clone, Copy)]
struct Fetched {
    queue: u16,
    completion: u16,
    command: Command,
}

pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    /// The submission and completion queue of the current command.
    current: Option<(u16, u16)>,
    /// This worker has stepped aside; another worker looks for work.
    aside: bool,
    segments: Vec<Segment>,
    /// A copy of the data on its way to the guest.
    pub(crate) copy: Vec<u8>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, current: None, aside: false, segments: Vec::new(), copy: Vec::new() }
    }

    /// Runs the worker until the controller is disabled.
    pub(crate) fn work(mut self) {
        let shared = Arc::clone(&self.shared);
        debug!(serial = %shared.common.serial, "a thread of the controller begins");
        while !shared.run.is_stopping() {
            let worked = shared.run.is_active() && (self.listen() | self.serve());
            if shared.run.take_shut_down() {
                self.shut_down();
            } else if !worked {
                shared.workers.rest(&shared.run);
            }
        }
        debug!(serial = %shared.common.serial, "a thread of the controller ends");
        if shared.workers.leave() {
            shared.run.over();
        }
    }

    /// Steps aside before a command that may block. Signals finished completions, and leaves the
    /// rest of the queue to other workers.
    pub(crate) fn step_aside(&mut self) {
        if self.aside {
            return;
        }
        self.aside = true;
        let shared = &self.shared;
        if let Some((queue, completion)) = self.current {
            shared.signal(completion);
            shared.enqueue_rest(queue);
        }
        shared.workers.step_aside(&shared.run, || shared.begin());
    }

    fn step_back(&mut self) {
        if std::mem::take(&mut self.aside) {
            self.shared.workers.step_back();
        }
    }

    fn shut_down(&mut self) {
        self.step_aside();
        if let Err(error) = self.shared.common.disk.flush() {
            warn!(serial = %self.shared.common.serial, %error, "what was written could not be flushed");
        }
        self.step_back();
        self.shared.run.set_status(vfio_irq_nvme_spec::register::SHUTDOWN_DONE);
    }

    /// Reads the doorbells that the guest has written. Returns true if there was one.
    fn listen(&self) -> bool {
        let shared = &self.shared;
        shared.run.listen(|place| {
            let Ok(id) = u16::try_from(place / 2) else { return };
            let heard =
                if place % 2 == 0 { self.hear_tail(id, place) } else { self.hear_head(id, place) };
            if let Err(event) = heard {
                shared.happen(event);
            }
        })
    }

    fn hear_tail(&self, id: u16, place: usize) -> Result<(), Event> {
        let shared = &self.shared;
        let found = {
            let mut queue = shared.submission(id).ok_or(Event::NoQueue)?;
            let queue = queue.as_mut().ok_or(Event::NoQueue)?;
            // The register is read under the lock of the queue, so the last reader sees the last
            // write.
            queue.hear(&shared.common.bus.memory, shared.run.doorbell(place))
        };
        match found {
            Ok(Found::Something) => shared.enqueue(id),
            Ok(Found::Nothing) => {}
            Ok(Found::Nonsense) => return Err(Event::Value),
            Err(why) => shared.fail(DOORBELLS, why),
        }
        Ok(())
    }

    fn hear_head(&self, id: u16, place: usize) -> Result<(), Event> {
        let shared = &self.shared;
        let (found, users) = {
            let mut queue = shared.completion(id).ok_or(Event::NoQueue)?;
            let queue = queue.as_mut().ok_or(Event::NoQueue)?;
            let found = queue.hear(&shared.common.bus.memory, shared.run.doorbell(place));
            (found, queue.waiting_users())
        };
        users.into_iter().for_each(|user| shared.enqueue(user));
        if id == 0 {
            shared.tell_events();
        }
        match found {
            Ok(Found::Something | Found::Nothing) => {}
            Ok(Found::Nonsense) => return Err(Event::Value),
            Err(why) => shared.fail(DOORBELLS, why),
        }
        Ok(())
    }

    /// Serves the next queue. Returns true if there was one.
    fn serve(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let Some(id) = shared.workers.pop() else { return false };
        shared.begin_turn(id);
        let (mut turn, mut completion) = (Turn::More, None);
        for _ in 0..BURST {
            turn = self.step(id, &mut completion);
            if matches!(turn, Turn::Over) || !shared.run.is_active() || shared.run.is_stopping() {
                break;
            }
        }
        shared.end_turn(id, matches!(turn, Turn::More));
        if let Some(completion) = completion {
            shared.signal(completion);
        }
        true
    }

    /// Fetches a command of a queue if the completion queue has room. Returns `None` if there is no
    /// command or no room.
    fn fetch(&self, id: u16) -> Option<Fetched> {
        let shared = &self.shared;
        let memory = &shared.common.bus.memory;
        let mut place = shared.submission(id)?;
        let queue = place.as_mut().filter(|queue| !queue.is_leaving())?;
        let found = queue.look(memory);
        if found != Ok(Found::Something) {
            drop(place);
            shared.judge(Some(found));
            return None;
        }
        let completion = queue.completion;
        let room = shared.completion(completion)?.as_mut()?.reserve(memory);
        if room != Ok(Found::Something) {
            drop(place);
            shared.judge(Some(room));
            return None;
        }
        let mut bytes = [0; 64];
        // The entry is copied before a completion tells the guest that the entry is free.
        let read = memory.read(queue.take(), &mut bytes);
        drop(place);
        if let Err(why) = read {
            shared.fail("a submission queue", why);
            return None;
        }
        Some(Fetched { queue: id, completion, command: Command::new(bytes) })
    }

    /// Carries out one command of a queue. Returns whether the queue may have more.
    fn step(&mut self, id: u16, completion: &mut Option<u16>) -> Turn {
        let Some(fetched) = self.fetch(id) else { return Turn::Over };
        self.current = Some((id, fetched.completion));
        *completion = Some(fetched.completion);
        let (id, command) = (fetched.queue, &fetched.command);
        let answer = if id == 0 { self.admin(command) } else { self.io(command).map(Some) };
        self.current = None;
        let turn = if self.aside { Turn::Over } else { Turn::More };
        // The worker steps back before it posts. Otherwise the guest could ring for its next
        // command first and wake another worker needlessly.
        self.step_back();
        self.end(id, command, answer);
        turn
    }

    fn end(&self, id: u16, command: &Command, answer: Result<Option<u32>, Status>) {
        // A command without an answer completes later (Asynchronous Event Request, deletion).
        if let Some(answer) = answer.transpose() {
            if let Err(status) = answer {
                self.shared.note(id, command, status);
            }
            self.shared.post(id, command.id(), answer);
        }
        if id == 0 {
            self.shared.tell_events();
        }
    }

    /// Calls `act` for each segment of the data of a command. Returns the error status of the PRP
    /// list or of `act`.
    pub(crate) fn each_segment(
        &mut self,
        command: &Command,
        len: usize,
        mut act: impl FnMut(&Shared, Segment, usize) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let shared = Arc::clone(&self.shared);
        let memory = &shared.common.bus.memory;
        prp::map(memory, shared.page, command, len, &mut self.segments)?;
        let mut at = 0;
        self.segments.iter().try_for_each(|segment| {
            let start = at;
            at += segment.len;
            act(&shared, *segment, start)
        })
    }

    /// Copies `bytes` to the data of a command. Returns a data transfer error if the memory cannot
    /// be written.
    pub(crate) fn give(&mut self, command: &Command, bytes: &[u8]) -> Result<(), Status> {
        self.each_segment(command, bytes.len(), |shared, segment, at| {
            let part = bytes.get(at..at + segment.len).ok_or(Status::DATA_TRANSFER)?;
            let memory = &shared.common.bus.memory;
            memory.write(segment.address, part).map_err(|_| Status::DATA_TRANSFER)
        })
    }

    /// Copies the data of a command to `bytes`. Returns a data transfer error if the memory cannot
    /// be read.
    pub(crate) fn take(&mut self, command: &Command, bytes: &mut [u8]) -> Result<(), Status> {
        self.each_segment(command, bytes.len(), |shared, segment, at| {
            let part = bytes.get_mut(at..at + segment.len).ok_or(Status::DATA_TRANSFER)?;
            let memory = &shared.common.bus.memory;
            memory.read(segment.address, part).map_err(|_| Status::DATA_TRANSFER)
        })
    }

    /// Returns true if the guest has created an I/O queue.
    pub(crate) fn has_queues(&self) -> bool {
        let shared = &self.shared;
        shared.submissions.iter().skip(1).any(|place| lock(place).is_some())
            || shared.completions.iter().skip(1).any(|place| lock(place).is_some())
    }
}
