//! The thread that works for an enabled controller: it fetches commands, carries them out one by one,
//! and posts how they ended.

use super::Common;
use super::counts::add;
use super::events::{Event, Events};
use super::features::Features;
use super::logs::Errors;
use super::queue::{Completion, Submission};
use super::registers::Setup;
use super::run::{FATAL, Run, SHUT_DOWN};
use super::shadow::{Buffers, Found};
use crate::command::{Command, first_words, last_word};
use crate::prp::{self, Segment};
use crate::status::Status;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, warn};
use vfio_irq_user::Errno;

/// What cannot be reached.
const DOORBELLS: &str = "a doorbell buffer";

/// Commands of one queue before the next has its turn, and before their completions are signalled.
const BURST: usize = 8;

/// How long to look for a doorbell before sleeping.
const SPIN: Duration = Duration::from_micros(20);

/// How a command ended: with the first word of its completion, or with an error.
pub(super) type Answer = Result<u32, Status>;

/// What became of a queue's turn.
enum Turn {
    /// There is more.
    More,
    /// Its commands are done, or wait for room among the completions, or it is gone.
    Over,
}

pub(super) struct Worker {
    pub(super) common: Arc<Common>,
    run: Arc<Run>,
    pub(super) page: u32,
    pub(super) submissions: Vec<Option<Submission>>,
    pub(super) completions: Vec<Option<Completion>>,
    /// Queues with commands, the next one first.
    turns: VecDeque<u16>,
    /// I/O queues that the guest may create.
    pub(super) granted: u16,
    pub(super) features: Features,
    pub(super) events: Events,
    pub(super) errors: Errors,
    /// Doorbells in memory, if the guest has them.
    pub(super) buffers: Option<Buffers>,
    segments: Vec<Segment>,
    broken: bool,
}

impl Worker {
    pub(super) fn new(common: Arc<Common>, run: Arc<Run>, setup: Setup) -> Self {
        let queues = usize::from(common.queues) + 1;
        let mut submissions: Vec<_> = (0..queues).map(|_| None).collect();
        let mut completions: Vec<_> = (0..queues).map(|_| None).collect();
        let (asq, acq) = (setup.submission, setup.completion);
        let mut admin = Completion::new(acq.0, acq.1, Some(0));
        admin.users.push(0);
        if let (Some(one), Some(other)) = (submissions.first_mut(), completions.first_mut()) {
            *one = Some(Submission::new(asq.0, asq.1, 0));
            *other = Some(admin);
        }
        add(&common.counters.enabled, 1);
        Self {
            granted: common.queues,
            common,
            run,
            page: setup.page,
            submissions,
            completions,
            turns: VecDeque::new(),
            features: Features::default(),
            events: Events::default(),
            errors: Errors::default(),
            buffers: None,
            segments: Vec::new(),
            broken: false,
        }
    }

    /// Works until the controller is disabled.
    pub(super) fn work(mut self) {
        debug!(serial = %self.common.serial, "the controller is enabled");
        while !self.run.is_stopping() {
            let active = self.run.is_allowed() && !self.broken;
            let worked = active && (self.listen() | self.serve());
            if self.run.take_shut_down() {
                self.shut_down();
            }
            if !worked {
                self.rest(active);
            }
        }
        debug!(serial = %self.common.serial, "the controller is disabled");
        self.run.over();
    }

    /// Waits for news: for a moment by looking, then asleep.
    fn rest(&self, active: bool) {
        let start = Instant::now();
        while active && self.run.is_quiet() && start.elapsed() < SPIN {
            std::hint::spin_loop();
        }
        if !active || self.run.is_quiet() {
            // Whoever has news says so after it is there, so this returns at once or is woken.
            std::thread::park();
        }
    }

    fn shut_down(&mut self) {
        if let Err(error) = self.common.disk.flush() {
            warn!(serial = %self.common.serial, %error, "what was written could not be flushed");
        }
        self.run.set_status(SHUT_DOWN);
    }

    /// The controller cannot go on: the guest must disable it.
    fn fail(&mut self, what: &str, why: Errno) {
        warn!(serial = %self.common.serial, %why, "a controller has stopped: {what} cannot be reached in the guest's memory");
        self.broken = true;
        self.run.set_status(FATAL);
    }

    /// Hears the doorbells that were rung.
    fn listen(&mut self) -> bool {
        let run = Arc::clone(&self.run);
        run.listen(|place, value| {
            let heard = if place % 2 == 0 {
                self.hear_tail(place / 2, value)
            } else {
                self.hear_head(place / 2, value)
            };
            if let Err(event) = heard {
                self.events.happen(event);
                self.tell_events();
            }
        })
    }

    fn hear_tail(&mut self, id: usize, tail: u32) -> Result<(), Event> {
        let queue = self.submissions.get_mut(id).and_then(Option::as_mut).ok_or(Event::NoQueue)?;
        match queue.hear(&self.common.bus.memory, tail) {
            Ok(Found::Something) => self.enqueue(id),
            Ok(Found::Nothing) => {}
            Ok(Found::Nonsense) => return Err(Event::Value),
            Err(why) => self.fail(DOORBELLS, why),
        }
        Ok(())
    }

    fn hear_head(&mut self, id: usize, head: u32) -> Result<(), Event> {
        let queue = self.completions.get_mut(id).and_then(Option::as_mut).ok_or(Event::NoQueue)?;
        let was_full = queue.is_full();
        match queue.hear(&self.common.bus.memory, head) {
            Ok(Found::Something) if was_full => {
                let users = queue.users.clone();
                users.into_iter().for_each(|user| self.enqueue(usize::from(user)));
                self.tell_events();
            }
            Ok(Found::Something | Found::Nothing) => {}
            Ok(Found::Nonsense) => return Err(Event::Value),
            Err(why) => self.fail(DOORBELLS, why),
        }
        Ok(())
    }

    /// Gives a queue a turn. It ends soon if there are no commands.
    fn enqueue(&mut self, id: usize) {
        let Some(queue) = self.submissions.get_mut(id).and_then(Option::as_mut) else { return };
        let Ok(id) = u16::try_from(id) else { return };
        if !queue.queued {
            queue.queued = true;
            self.turns.push_back(id);
        }
    }

    /// Gives the next queue its turn; whether there was one.
    fn serve(&mut self) -> bool {
        let Some(id) = self.turns.pop_front() else { return false };
        let place = usize::from(id);
        if let Some(queue) = self.submissions.get_mut(place).and_then(Option::as_mut) {
            queue.queued = false;
        }
        let completion = self.submission(id).map(|queue| queue.completion);
        let mut turn = Turn::More;
        for _ in 0..BURST {
            turn = self.step(id);
            if matches!(turn, Turn::Over) || self.broken || self.run.is_stopping() {
                break;
            }
        }
        if matches!(turn, Turn::More) {
            self.enqueue(place);
        }
        if let Some(completion) = completion {
            self.signal(completion);
        }
        true
    }

    fn submission(&self, id: u16) -> Option<&Submission> {
        self.submissions.get(usize::from(id)).and_then(Option::as_ref)
    }

    fn has_room(&mut self, completion: u16) -> bool {
        let queue = self.completions.get_mut(usize::from(completion)).and_then(Option::as_mut);
        let found = queue.map(|queue| queue.look(&self.common.bus.memory));
        self.judge(found)
    }

    fn has_commands(&mut self, id: u16) -> bool {
        let queue = self.submissions.get_mut(usize::from(id)).and_then(Option::as_mut);
        let found = queue.map(|queue| queue.look(&self.common.bus.memory));
        self.judge(found)
    }

    /// Whether there is something to do; what is wrong is told.
    fn judge(&mut self, found: Option<Result<Found, Errno>>) -> bool {
        match found {
            Some(Ok(Found::Nonsense)) => self.events.happen(Event::Value),
            Some(Err(why)) => self.fail(DOORBELLS, why),
            Some(Ok(Found::Something | Found::Nothing)) | None => {}
        }
        found == Some(Ok(Found::Something))
    }

    /// Carries out one command of a queue, if there is room to say how it ended.
    fn step(&mut self, id: u16) -> Turn {
        if !self.has_commands(id) {
            return Turn::Over;
        }
        let Some(completion) = self.submission(id).map(|queue| queue.completion) else {
            return Turn::Over;
        };
        if !self.has_room(completion) {
            return Turn::Over;
        }
        let queue = self.submissions.get_mut(usize::from(id)).and_then(Option::as_mut);
        let Some((address, head)) = queue.map(|queue| (queue.take(), queue.head())) else {
            return Turn::Over;
        };
        let mut bytes = [0; 64];
        if let Err(why) = self.common.bus.memory.read(address, &mut bytes) {
            self.fail("a submission queue", why);
            return Turn::Over;
        }
        let command = Command::new(bytes);
        let answer = if id == 0 { self.admin(&command) } else { self.io(&command).map(Some) };
        // Without an answer it ends later.
        if let Some(answer) = answer.transpose() {
            if let Err(status) = answer {
                self.note(id, &command, status);
            }
            self.post(completion, id, head, command.id(), answer);
        }
        if id == 0 {
            self.tell_events();
        }
        Turn::More
    }

    /// Remembers a command that failed.
    fn note(&mut self, id: u16, command: &Command, status: Status) {
        let counters = &self.common.counters;
        add(&counters.failures, 1);
        add(&counters.media_failures, u64::from(status.is_media()));
        debug!(serial = %self.common.serial, queue = id, opcode = command.opcode(), status = status.bits(), "a command failed");
        self.errors.note(id, command, status);
    }

    /// Posts how a command ended. There is room.
    fn post(&mut self, completion: u16, id: u16, head: u16, command: u16, answer: Answer) {
        let queue = self.completions.get_mut(usize::from(completion)).and_then(Option::as_mut);
        let Some((address, phase)) = queue.map(Completion::place) else { return };
        let (result, status) = match answer {
            Ok(result) => (result, Status::SUCCESS),
            Err(status) => (0, status),
        };
        let memory = &self.common.bus.memory;
        // The last word is what the guest looks for, so it is written when all else is there.
        let posted = memory.write(address, &first_words(result, id, head)).and_then(|()| {
            memory.store(address.saturating_add(12), last_word(command, status, phase))
        });
        if let Err(why) = posted {
            self.fail("a completion queue", why);
        }
    }

    /// Raises the interrupt of a completion queue if there is something new in it.
    fn signal(&mut self, completion: u16) {
        let queue = self.completions.get_mut(usize::from(completion)).and_then(Option::as_mut);
        let Some(queue) = queue.filter(|queue| queue.owes) else { return };
        queue.owes = false;
        if let Some(vector) = queue.vector {
            self.common.bus.interrupts.raise(vector);
        }
    }

    /// Completes requests for events as long as there are both.
    pub(super) fn tell_events(&mut self) {
        while self.has_room(0) {
            let Some((command, word)) = self.events.next() else { break };
            self.post_admin(command, Ok(word));
        }
        self.signal(0);
    }

    /// Whether two admin commands can end now.
    pub(super) fn admin_has_room_for_two(&mut self) -> bool {
        self.completions.first().and_then(Option::as_ref).is_some_and(|queue| queue.room() > 1)
    }

    /// Ends an admin command that was put aside.
    pub(super) fn post_admin(&mut self, command: u16, answer: Answer) {
        let head = self.submission(0).map_or(0, Submission::head);
        self.post(0, 0, head, command, answer);
    }

    /// Whether the guest has created any queue.
    pub(super) fn has_queues(&self) -> bool {
        let submissions = self.submissions.iter().skip(1).any(Option::is_some);
        submissions || self.completions.iter().skip(1).any(Option::is_some)
    }

    /// Calls `act` for each piece of a command's data.
    pub(super) fn each_segment(
        &mut self,
        command: &Command,
        len: usize,
        mut act: impl FnMut(&Common, Segment, usize) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut segments = std::mem::take(&mut self.segments);
        let memory = &self.common.bus.memory;
        let mapped = prp::map(memory, self.page, command, len, &mut segments);
        let mut at = 0;
        let done = mapped.and_then(|()| {
            segments.iter().try_for_each(|segment| {
                let start = at;
                at += segment.len;
                act(&self.common, *segment, start)
            })
        });
        self.segments = segments;
        done
    }

    /// Copies an answer into a command's data.
    pub(super) fn give(&mut self, command: &Command, bytes: &[u8]) -> Result<(), Status> {
        self.each_segment(command, bytes.len(), |common, segment, at| {
            let part = bytes.get(at..at + segment.len).ok_or(Status::DATA_TRANSFER)?;
            common.bus.memory.write(segment.address, part).map_err(|_| Status::DATA_TRANSFER)
        })
    }

    /// Copies out of a command's data.
    pub(super) fn take(&mut self, command: &Command, bytes: &mut [u8]) -> Result<(), Status> {
        self.each_segment(command, bytes.len(), |common, segment, at| {
            let part = bytes.get_mut(at..at + segment.len).ok_or(Status::DATA_TRANSFER)?;
            common.bus.memory.read(segment.address, part).map_err(|_| Status::DATA_TRANSFER)
        })
    }
}
