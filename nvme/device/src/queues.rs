//! All queues of an enabled controller: from a doorbell to a fetched command, and from an answer to
//! an interrupt.

use crate::Answer;
use crate::events::Event;
use crate::queue::{Completion, Submission};
use crate::registers::{MOST_ENTRIES, Setup};
use crate::shadow_doorbells::{Buffers, Found};
use std::collections::VecDeque;
use vfio_irq_nvme_spec::{Command, Status, first_words, high, last_word, low};
use vfio_irq_user::{Errno, Interrupts, Memory};

/// What stops a queue.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The guest made an error, which an asynchronous event reports.
    Event(Event),
    /// Memory of the guest cannot be reached.
    Memory {
        /// What is there.
        what: &'static str,
        /// The error.
        errno: Errno,
    },
}

impl Problem {
    fn memory(what: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Memory { what, errno }
    }
}

/// Returns true if a doorbell brought work or room.
fn found(doorbell: Result<Found, Errno>) -> Result<bool, Problem> {
    match doorbell.map_err(Problem::memory("a doorbell buffer"))? {
        Found::Something => Ok(true),
        Found::Nothing => Ok(false),
        Found::Nonsense => Err(Problem::Event(Event::Value)),
    }
}

fn of<T>(queues: &mut [Option<T>], id: u16) -> Option<&mut T> {
    queues.get_mut(usize::from(id))?.as_mut()
}

pub(crate) struct Queues {
    submissions: Box<[Option<Submission>]>,
    completions: Box<[Option<Completion>]>,
    /// Submission queues that may have commands, in the order of service.
    turns: VecDeque<u16>,
    /// The shadow doorbells, if the guest has configured them.
    buffers: Option<Buffers>,
    /// Bytes of a page.
    page: u32,
}

impl Queues {
    /// Returns the queues of a controller that was just enabled: the admin queue alone.
    pub(crate) fn new(queues: u16, setup: Setup) -> Self {
        let count = usize::from(queues) + 1;
        let (asq, acq) = (setup.submission, setup.completion);
        let mut submissions: Box<[_]> = (0..count).map(|_| None).collect();
        let mut completions: Box<[_]> = (0..count).map(|_| None).collect();
        if let (Some(submission), Some(completion)) =
            (submissions.first_mut(), completions.first_mut())
        {
            let mut admin = Completion::new(acq.0, acq.1, Some(0));
            admin.users.push(0);
            *submission = Some(Submission::new(asq.0, asq.1, 0));
            *completion = Some(admin);
        }
        Self { submissions, completions, turns: VecDeque::new(), buffers: None, page: setup.page }
    }

    /// The guest has written the tail of a submission queue.
    pub(crate) fn hear_tail(
        &mut self,
        id: u16,
        value: u32,
        memory: &Memory,
    ) -> Result<(), Problem> {
        let queue = of(&mut self.submissions, id).ok_or(Problem::Event(Event::NoQueue))?;
        if found(queue.hear(memory, value))? {
            self.enqueue(id);
        }
        Ok(())
    }

    /// The guest has written the head of a completion queue.
    pub(crate) fn hear_head(
        &mut self,
        id: u16,
        value: u32,
        memory: &Memory,
    ) -> Result<(), Problem> {
        let queue = of(&mut self.completions, id).ok_or(Problem::Event(Event::NoQueue))?;
        let heard = queue.hear(memory, value);
        let users = queue.waiting_users();
        users.into_iter().for_each(|user| self.enqueue(user));
        found(heard).map(drop)
    }

    /// Queues a submission queue for service.
    pub(crate) fn enqueue(&mut self, id: u16) {
        if let Some(queue) = of(&mut self.submissions, id)
            && !std::mem::replace(&mut queue.is_enqueued, true)
        {
            self.turns.push_back(id);
        }
    }

    /// Returns the submission queue that is served next, and its completion queue.
    pub(crate) fn next(&mut self) -> Option<(u16, u16)> {
        loop {
            let id = self.turns.pop_front()?;
            // A deleted queue may have left its number behind.
            if let Some(queue) = of(&mut self.submissions, id) {
                queue.is_enqueued = false;
                return Some((id, queue.completion));
            }
        }
    }

    /// Fetches a command and reserves an entry for its completion, so that every fetched command
    /// can complete. Returns `None` if there is no command or no entry.
    pub(crate) fn fetch(&mut self, id: u16, memory: &Memory) -> Result<Option<Command>, Problem> {
        let Some(queue) = of(&mut self.submissions, id) else { return Ok(None) };
        if !found(queue.look(memory))? {
            return Ok(None);
        }
        let Some(completion) = of(&mut self.completions, queue.completion) else {
            return Ok(None);
        };
        if !found(completion.reserve(memory))? {
            return Ok(None);
        }
        let mut bytes = [0; 64];
        // The entry is copied before a completion tells the guest that the entry is free.
        let read = memory.read(queue.take(), &mut bytes);
        read.map_err(Problem::memory("a submission queue"))?;
        Ok(Some(Command::new(bytes)))
    }

    /// Posts the completion of a command, for which an entry was reserved.
    pub(crate) fn post(
        &mut self,
        id: u16,
        command: u16,
        answer: Answer,
        memory: &Memory,
    ) -> Result<(), Problem> {
        let Some(queue) = of(&mut self.submissions, id) else { return Ok(()) };
        let Some(completion) = of(&mut self.completions, queue.completion) else { return Ok(()) };
        let (address, phase) = completion.place();
        let (result, status) = match answer {
            Ok(result) => (result, Status::SUCCESS),
            Err(status) => (0, status),
        };
        // The guest polls the phase bit in the last word, so the last word is stored last.
        let last = last_word(command, status, phase).to_le();
        let stored = memory
            .write(address, &first_words(result, id, queue.head()))
            .and_then(|()| memory.store(address.saturating_add(12), last));
        stored.map_err(Problem::memory("a completion queue"))
    }

    /// Raises the vector of a completion queue if there are new completions.
    pub(crate) fn signal(&mut self, completion: u16, interrupts: &Interrupts) {
        let queue = of(&mut self.completions, completion);
        if let Some(vector) = queue.and_then(Completion::owed) {
            interrupts.raise(vector);
        }
    }

    /// Reserves an admin completion queue entry. Returns true on success.
    pub(crate) fn reserve_admin(&mut self, memory: &Memory) -> Result<bool, Problem> {
        let queue = of(&mut self.completions, 0);
        queue.map_or(Ok(false), |queue| found(queue.reserve(memory)))
    }

    /// Releases a reserved admin completion queue entry.
    pub(crate) fn release_admin(&mut self) {
        if of(&mut self.completions, 0).is_some_and(Completion::release) {
            self.enqueue(0);
        }
    }

    /// Returns true if the guest has created an I/O queue.
    pub(crate) fn has_io_queues(&self) -> bool {
        self.submissions.iter().skip(1).any(Option::is_some)
            || self.completions.iter().skip(1).any(Option::is_some)
    }

    /// Returns the address and the size of a new queue, or the error status if the guest cannot
    /// create it.
    fn new_queue(&self, granted: u16, command: &Command) -> Result<(u64, u32), Status> {
        let id = low(command.word(10));
        if id == 0 || id > granted {
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

    /// Create I/O Completion Queue. `granted` is the number of I/O queues that the guest may
    /// create, `vectors` the greatest vector.
    pub(crate) fn create_completion(
        &mut self,
        command: &Command,
        granted: u16,
        vectors: u16,
        memory: &Memory,
    ) -> Answer {
        let id = low(command.word(10));
        if of(&mut self.completions, id).is_some() {
            return Err(Status::QUEUE_ID);
        }
        let (base, entries) = self.new_queue(granted, command)?;
        let vector = high(command.word(11));
        if vector > vectors {
            return Err(Status::VECTOR);
        }
        let wanted = command.word(11) & 2 != 0;
        let mut queue = Completion::new(base, entries, wanted.then_some(u32::from(vector)));
        if let Some(buffers) = self.buffers {
            let moved = queue.move_doorbell(buffers, memory, id);
            moved.map_err(|_| Status::INVALID_FIELD)?;
        }
        let place = self.completions.get_mut(usize::from(id)).ok_or(Status::QUEUE_ID)?;
        *place = Some(queue);
        Ok(0)
    }

    /// Create I/O Submission Queue. `granted` is the number of I/O queues that the guest may
    /// create.
    pub(crate) fn create_submission(
        &mut self,
        command: &Command,
        granted: u16,
        memory: &Memory,
    ) -> Answer {
        let id = low(command.word(10));
        if of(&mut self.submissions, id).is_some() {
            return Err(Status::QUEUE_ID);
        }
        let (base, entries) = self.new_queue(granted, command)?;
        let target = high(command.word(11));
        let completion = of(&mut self.completions, target).filter(|_| target != 0);
        let completion = completion.ok_or(Status::COMPLETION_QUEUE)?;
        let mut queue = Submission::new(base, entries, target);
        if let Some(buffers) = self.buffers {
            let moved = queue.move_doorbell(buffers, memory, id);
            moved.map_err(|_| Status::INVALID_FIELD)?;
        }
        let place = self.submissions.get_mut(usize::from(id)).ok_or(Status::QUEUE_ID)?;
        completion.users.push(id);
        *place = Some(queue);
        Ok(0)
    }

    /// Delete I/O Submission Queue. No command of the queue is outstanding: the worker completes
    /// each command before it fetches the next.
    pub(crate) fn delete_submission(&mut self, command: &Command) -> Answer {
        let id = low(command.word(10));
        let place = self.submissions.get_mut(usize::from(id)).filter(|_| id != 0);
        let queue = place.and_then(Option::take).ok_or(Status::QUEUE_ID)?;
        if let Some(completion) = of(&mut self.completions, queue.completion) {
            completion.users.retain(|user| *user != id);
        }
        Ok(0)
    }

    /// Delete I/O Completion Queue. Signals posted completions, before the vector goes.
    pub(crate) fn delete_completion(
        &mut self,
        command: &Command,
        interrupts: &Interrupts,
    ) -> Answer {
        let id = low(command.word(10));
        let queue = of(&mut self.completions, id).filter(|_| id != 0);
        if !queue.ok_or(Status::QUEUE_ID)?.users.is_empty() {
            return Err(Status::QUEUE_DELETION);
        }
        self.signal(id, interrupts);
        if let Some(place) = self.completions.get_mut(usize::from(id)) {
            *place = None;
        }
        Ok(0)
    }

    /// Doorbell Buffer Config: from now on the doorbells of all queues are in the guest's memory.
    /// Returns the error status, and a problem if the doorbells of some queues have moved already.
    pub(crate) fn set_buffers(
        &mut self,
        command: &Command,
        memory: &Memory,
    ) -> Result<(), (Status, Option<Problem>)> {
        let (doorbells, events) = (command.prp1(), command.prp2());
        let buffers = Buffers::new(memory, self.page, doorbells, events);
        let buffers = buffers.ok_or((Status::INVALID_FIELD, None))?;
        let count = u16::try_from(self.submissions.len()).unwrap_or(u16::MAX);
        for id in 0..count {
            if let Err(errno) = self.move_doorbells(buffers, id, memory) {
                // The doorbells of the first queue did not move.
                let problem = (id > 0).then(|| Problem::memory("a doorbell buffer")(errno));
                return Err((Status::INVALID_FIELD, problem));
            }
        }
        self.buffers = Some(buffers);
        Ok(())
    }

    fn move_doorbells(&mut self, buffers: Buffers, id: u16, memory: &Memory) -> Result<(), Errno> {
        if let Some(queue) = of(&mut self.submissions, id) {
            queue.move_doorbell(buffers, memory, id)?;
        }
        if let Some(queue) = of(&mut self.completions, id) {
            queue.move_doorbell(buffers, memory, id)?;
            let users = queue.waiting_users();
            users.into_iter().for_each(|user| self.enqueue(user));
        }
        Ok(())
    }
}
