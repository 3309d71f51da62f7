//! What the workers of an enabled controller share, and how they end commands.
//!
//! Locks are taken in this order: a submission queue, its completion queue, one of the small ones
//! (events, errors, the crew's). The admin commands' own lock comes before all of them.

use super::Common;
use super::counts::{add, get};
use super::crew::Crew;
use super::events::{Event, Events};
use super::features::Features;
use super::logs::Errors;
use super::queue::{Completion, Submission};
use super::ranges::Ranges;
use super::registers::Setup;
use super::run::Run;
use super::shadow::{Buffers, Found};
use super::worker::{Answer, Worker};
use crate::command::{Command, first_words, last_word};
use crate::status::Status;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tracing::{debug, warn};
use vfio_irq_user::{Errno, errno};

/// What cannot be reached.
pub(super) const DOORBELLS: &str = "a doorbell buffer";

/// A queue that may be there.
type Place<T> = Mutex<Option<T>>;

/// What admin commands change.
pub(super) struct Admin {
    /// I/O queues that the guest may create.
    pub(super) granted: u16,
    pub(super) features: Features,
    /// Doorbells in memory, if the guest has them.
    pub(super) buffers: Option<Buffers>,
}

pub(super) struct Shared {
    pub(super) common: Arc<Common>,
    pub(super) run: Run,
    pub(super) crew: Crew,
    pub(super) page: u32,
    pub(super) submissions: Box<[Place<Submission>]>,
    pub(super) completions: Box<[Place<Completion>]>,
    pub(super) admin: Mutex<Admin>,
    pub(super) events: Mutex<Events>,
    pub(super) errors: Mutex<Errors>,
    /// Writes need not survive a loss of power before they are flushed.
    pub(super) write_cache: AtomicBool,
    pub(super) ranges: Ranges,
}

/// A lock that is good whatever became of who held it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(common: Arc<Common>, allowed: bool, setup: Setup) -> Self {
        let queues = usize::from(common.queues) + 1;
        let submissions: Box<[Place<Submission>]> = (0..queues).map(|_| Mutex::default()).collect();
        let completions: Box<[Place<Completion>]> = (0..queues).map(|_| Mutex::default()).collect();
        let (asq, acq) = (setup.submission, setup.completion);
        if let (Some(one), Some(other)) = (submissions.first(), completions.first()) {
            let mut admin = Completion::new(acq.0, acq.1, Some(0));
            admin.users.push(0);
            *lock(one) = Some(Submission::new(asq.0, asq.1, 0));
            *lock(other) = Some(admin);
        }
        add(&common.counters.enabled, 1);
        let (granted, features, buffers) = (common.queues, Features::default(), None);
        Self {
            run: Run::new(common.queues, allowed),
            common,
            crew: Crew::default(),
            page: setup.page,
            submissions,
            completions,
            admin: Mutex::new(Admin { granted, features, buffers }),
            events: Mutex::default(),
            errors: Mutex::default(),
            write_cache: AtomicBool::new(true),
            ranges: Ranges::default(),
        }
    }

    /// Another thread.
    pub(super) fn begin(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let worker = Worker::new(Arc::clone(self));
        let thread = std::thread::Builder::new().name("nvme".into()).stack_size(256 << 10);
        thread.spawn(move || worker.work())
    }

    /// Tells the workers something.
    pub(super) fn tell(self: &Arc<Self>, words: impl FnOnce(&Run)) {
        words(&self.run);
        self.crew.rouse(&self.run, || self.begin());
    }

    /// Has the workers end after the commands at hand.
    pub(super) fn stop(&self) {
        self.run.stop();
        self.crew.dismiss();
    }

    pub(super) fn submission(&self, id: u16) -> Option<MutexGuard<'_, Option<Submission>>> {
        self.submissions.get(usize::from(id)).map(lock)
    }

    pub(super) fn completion(&self, id: u16) -> Option<MutexGuard<'_, Option<Completion>>> {
        self.completions.get(usize::from(id)).map(lock)
    }

    /// The controller cannot go on: the guest must disable it.
    pub(super) fn fail(&self, what: &str, why: Errno) {
        // The controller is being reset, or the client has left: no fault of the guest.
        let ending = matches!(why, errno::ECANCELED | errno::ENOTCONN);
        if !ending && self.common.may_complain() {
            warn!(serial = %self.common.serial, %why, "a controller has stopped: {what} cannot be reached in the guest's memory");
        }
        self.run.fail();
    }

    /// Gives a queue a turn. It ends soon if there are no commands.
    pub(super) fn enqueue(&self, id: u16) {
        let Some(mut place) = self.submission(id) else { return };
        if place.as_mut().is_some_and(Submission::ask) {
            self.crew.push(id);
        }
    }

    /// A queue's turn begins. The admin queue has one at a time, so that its commands are carried out
    /// one by one.
    pub(super) fn begin_turn(&self, id: u16) {
        if let Some(mut place) = self.submission(id)
            && let Some(queue) = place.as_mut()
        {
            queue.begin_turn(id == 0);
        }
    }

    /// A queue's turn is over; `more`: it wants another.
    pub(super) fn end_turn(&self, id: u16, more: bool) {
        let Some(mut place) = self.submission(id) else { return };
        let Some(queue) = place.as_mut() else { return };
        if (queue.end_turn() || more) && queue.ask() {
            self.crew.push(id);
        }
    }

    /// Gives a queue a turn if it has commands; if not, the guest rings for the next.
    pub(super) fn enqueue_rest(&self, id: u16) {
        let found = {
            let Some(mut place) = self.submission(id) else { return };
            place.as_mut().map(|queue| queue.look(&self.common.bus.memory))
        };
        if self.judge(found) {
            self.enqueue(id);
        }
    }

    /// Whether there is something to do; what is wrong is told.
    pub(super) fn judge(&self, found: Option<Result<Found, Errno>>) -> bool {
        match found {
            Some(Ok(Found::Nonsense)) => self.happen(Event::Value),
            Some(Err(why)) => self.fail(DOORBELLS, why),
            Some(Ok(Found::Something | Found::Nothing)) | None => {}
        }
        found == Some(Ok(Found::Something))
    }

    /// Something to be told to a guest that wants to know.
    pub(super) fn happen(&self, event: Event) {
        lock(&self.events).happen(event);
        self.tell_events();
    }

    /// Keeps a place among the admin completions for a command; whether there was one.
    pub(super) fn reserve_admin(&self) -> bool {
        let reserved = {
            let Some(mut place) = self.completion(0) else { return false };
            place.as_mut().map(|queue| queue.reserve(&self.common.bus.memory))
        };
        // Nonsense is told to nobody here: there is no room to tell it.
        if let Some(Err(why)) = reserved {
            self.fail(DOORBELLS, why);
        }
        reserved == Some(Ok(Found::Something))
    }

    /// Gives such a place back.
    pub(super) fn release_admin(&self) {
        let waits = {
            let Some(mut place) = self.completion(0) else { return };
            place.as_mut().is_some_and(Completion::release)
        };
        if waits {
            self.enqueue(0);
        }
    }

    /// Completes requests for events as long as there are both.
    pub(super) fn tell_events(&self) {
        loop {
            let ready = lock(&self.events).is_ready();
            if !ready || !self.reserve_admin() {
                break;
            }
            // Another thread may have been faster.
            let next = lock(&self.events).next();
            let Some((command, word)) = next else {
                self.release_admin();
                break;
            };
            self.post(0, command, Ok(word));
        }
        self.signal(0);
    }

    /// Remembers a command that failed.
    pub(super) fn note(&self, id: u16, command: &Command, status: Status) {
        let counters = &self.common.counters;
        add(&counters.failures, 1);
        if status.is_media() {
            add(&counters.media_failures, 1);
            let failures = get(&counters.media_failures);
            // A guest can repeat this for ever: the log tells the first, and each time it has doubled.
            if failures.is_power_of_two() {
                warn!(serial = %self.common.serial, opcode = command.opcode(), failures, "the disk failed a command of the guest");
            }
        }
        debug!(serial = %self.common.serial, queue = id, opcode = command.opcode(), status = status.bits(), "a command failed");
        lock(&self.errors).note(id, command, status);
    }

    /// Posts how a command of a queue ended. A place was kept for it.
    pub(super) fn post(&self, id: u16, command: u16, answer: Answer) {
        let Some(mut place) = self.submission(id) else { return };
        let Some(queue) = place.as_mut() else { return };
        let (completion, head) = (queue.completion, queue.head());
        if let Some(mut place) = self.completion(completion)
            && let Some(queue) = place.as_mut()
        {
            let (address, phase) = queue.place();
            if let Err(why) = self.put(address, phase, (id, head), command, answer) {
                self.fail("a completion queue", why);
            }
        }
        let Some(deletion) = queue.ended() else { return };
        // It was the last command of a queue that is to go.
        *place = None;
        drop(place);
        self.forget_user(completion, id);
        self.post(0, deletion, Ok(0));
        self.signal(0);
    }

    fn put(
        &self,
        address: u64,
        phase: bool,
        (id, head): (u16, u16),
        command: u16,
        answer: Answer,
    ) -> Result<(), Errno> {
        let (result, status) = match answer {
            Ok(result) => (result, Status::SUCCESS),
            Err(status) => (0, status),
        };
        let memory = &self.common.bus.memory;
        // The last word is what the guest looks for, so it is written when all else is there.
        memory.write(address, &first_words(result, id, head))?;
        memory.store(address.saturating_add(12), last_word(command, status, phase).to_le())
    }

    /// A submission queue is gone.
    pub(super) fn forget_user(&self, completion: u16, id: u16) {
        if let Some(mut place) = self.completion(completion)
            && let Some(queue) = place.as_mut()
        {
            queue.users.retain(|user| *user != id);
        }
    }

    /// Raises the interrupt of a completion queue if there is something new in it.
    pub(super) fn signal(&self, completion: u16) {
        if let Some(mut place) = self.completion(completion)
            && let Some(queue) = place.as_mut()
            && let Some(vector) = queue.owed()
        {
            self.common.bus.interrupts.raise(vector);
        }
    }
}
