//! The state that the workers of an enabled controller share, and how commands complete.
//!
//! # Lock order
//!
//! The lock of the admin commands comes first, then a submission queue, then its completion queue.
//! The locks of the events, the errors and the worker pool come last, one at a time.

use super::Common;
use super::counts::{add, get};
use super::events::{Event, Events};
use super::features::Features;
use super::lba_locks::LbaLocks;
use super::logs::Errors;
use super::queue::{Completion, Submission};
use super::registers::Setup;
use super::run::Run;
use super::shadow_doorbells::{Buffers, Found};
use super::worker::{Answer, Worker};
use super::worker_pool::WorkerPool;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tracing::{debug, warn};
use vfio_irq_nvme_spec::Status;
use vfio_irq_nvme_spec::{Command, first_words, last_word};
use vfio_irq_user::{Errno, errno};

/// The name of the doorbell buffers in the log.
pub(crate) const DOORBELLS: &str = "a doorbell buffer";

/// A queue, if the guest has created it.
type Place<T> = Mutex<Option<T>>;

/// The state that admin commands change.
pub(crate) struct Admin {
    /// I/O queues that the guest may create.
    pub(crate) granted: u16,
    pub(crate) features: Features,
    /// The shadow doorbells, if the guest has configured them.
    pub(crate) buffers: Option<Buffers>,
}

pub(crate) struct Shared {
    pub(crate) common: Arc<Common>,
    pub(crate) run: Run,
    pub(crate) workers: WorkerPool,
    pub(crate) page: u32,
    pub(crate) submissions: Box<[Place<Submission>]>,
    pub(crate) completions: Box<[Place<Completion>]>,
    pub(crate) admin: Mutex<Admin>,
    pub(crate) events: Mutex<Events>,
    pub(crate) errors: Mutex<Errors>,
    /// The volatile write cache is enabled: writes need not survive a power loss before a flush.
    pub(crate) write_cache: AtomicBool,
    pub(crate) lba_locks: LbaLocks,
}

/// Locks a mutex, and ignores poison.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(common: Arc<Common>, allowed: bool, setup: Setup) -> Self {
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
            workers: WorkerPool::default(),
            page: setup.page,
            submissions,
            completions,
            admin: Mutex::new(Admin { granted, features, buffers }),
            events: Mutex::default(),
            errors: Mutex::default(),
            write_cache: AtomicBool::new(true),
            lba_locks: LbaLocks::default(),
        }
    }

    /// Spawns a worker. Returns its handle, or an error if the system has no more threads.
    pub(crate) fn begin(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let worker = Worker::new(Arc::clone(self));
        let thread = std::thread::Builder::new().name("nvme".into()).stack_size(256 << 10);
        thread.spawn(move || worker.work())
    }

    /// Publishes something to the workers, and then wakes one if all are idle.
    pub(crate) fn tell(self: &Arc<Self>, words: impl FnOnce(&Run)) {
        words(&self.run);
        self.workers.wake(&self.run, || self.begin());
    }

    /// Makes the workers end after their current commands. Does not wait for them.
    pub(crate) fn stop(&self) {
        self.run.stop();
        self.workers.wake_all();
    }

    pub(crate) fn submission(&self, id: u16) -> Option<MutexGuard<'_, Option<Submission>>> {
        self.submissions.get(usize::from(id)).map(lock)
    }

    pub(crate) fn completion(&self, id: u16) -> Option<MutexGuard<'_, Option<Completion>>> {
        self.completions.get(usize::from(id)).map(lock)
    }

    /// Stops the controller with a fatal status (CSTS.CFS); the guest must disable it.
    pub(crate) fn fail(&self, what: &str, why: Errno) {
        // During a reset or a disconnect these errors are expected.
        let ending = matches!(why, errno::ECANCELED | errno::ENOTCONN);
        if !ending && self.common.may_complain() {
            warn!(serial = %self.common.serial, %why, "a controller has stopped: {what} cannot be reached in the guest's memory");
        }
        self.run.fail();
    }

    /// Queues a submission queue for service.
    pub(crate) fn enqueue(&self, id: u16) {
        let Some(mut place) = self.submission(id) else { return };
        if place.as_mut().is_some_and(Submission::ask) {
            self.workers.push(id);
        }
    }

    /// Starts to serve a queue. Only one worker at a time serves the admin queue, so admin commands
    /// run one by one.
    pub(crate) fn begin_turn(&self, id: u16) {
        if let Some(mut place) = self.submission(id)
            && let Some(queue) = place.as_mut()
        {
            queue.begin_turn(id == 0);
        }
    }

    /// Ends the service of a queue. If `more` is true, queues it again.
    pub(crate) fn end_turn(&self, id: u16, more: bool) {
        let Some(mut place) = self.submission(id) else { return };
        let Some(queue) = place.as_mut() else { return };
        if (queue.end_turn() || more) && queue.ask() {
            self.workers.push(id);
        }
    }

    /// Queues a submission queue if it has commands. Otherwise arms the doorbell.
    pub(crate) fn enqueue_rest(&self, id: u16) {
        let found = {
            let Some(mut place) = self.submission(id) else { return };
            place.as_mut().map(|queue| queue.look(&self.common.bus.memory))
        };
        if self.judge(found) {
            self.enqueue(id);
        }
    }

    /// Reports an invalid doorbell or an error. Returns true if there is work.
    pub(crate) fn judge(&self, found: Option<Result<Found, Errno>>) -> bool {
        match found {
            Some(Ok(Found::Nonsense)) => self.happen(Event::Value),
            Some(Err(why)) => self.fail(DOORBELLS, why),
            Some(Ok(Found::Something | Found::Nothing)) | None => {}
        }
        found == Some(Ok(Found::Something))
    }

    /// Records an asynchronous event, and reports it if the guest has a request outstanding.
    pub(crate) fn happen(&self, event: Event) {
        lock(&self.events).happen(event);
        self.tell_events();
    }

    /// Reserves an admin completion queue entry. Returns true on success.
    pub(crate) fn reserve_admin(&self) -> bool {
        let reserved = {
            let Some(mut place) = self.completion(0) else { return false };
            place.as_mut().map(|queue| queue.reserve(&self.common.bus.memory))
        };
        // An invalid doorbell is not reported here, because reporting needs a completion queue
        // entry.
        if let Some(Err(why)) = reserved {
            self.fail(DOORBELLS, why);
        }
        reserved == Some(Ok(Found::Something))
    }

    /// Releases a reserved admin completion queue entry.
    pub(crate) fn release_admin(&self) {
        let waits = {
            let Some(mut place) = self.completion(0) else { return };
            place.as_mut().is_some_and(Completion::release)
        };
        if waits {
            self.enqueue(0);
        }
    }

    /// Completes Asynchronous Event Requests while there are events and requests.
    pub(crate) fn tell_events(&self) {
        loop {
            let ready = lock(&self.events).is_ready();
            if !ready || !self.reserve_admin() {
                break;
            }
            // Another worker may have taken the event.
            let next = lock(&self.events).next();
            let Some((command, word)) = next else {
                self.release_admin();
                break;
            };
            self.post(0, command, Ok(word));
        }
        self.signal(0);
    }

    /// Counts and logs a failed command.
    pub(crate) fn note(&self, id: u16, command: &Command, status: Status) {
        let counters = &self.common.counters;
        add(&counters.failures, 1);
        if status.is_media() {
            add(&counters.media_failures, 1);
            let failures = get(&counters.media_failures);
            // The guest can repeat this without end, so the log rate decreases exponentially.
            if failures.is_power_of_two() {
                warn!(serial = %self.common.serial, opcode = command.opcode(), failures, "the disk failed a command of the guest");
            }
        }
        debug!(serial = %self.common.serial, queue = id, opcode = command.opcode(), status = status.bits(), "a command failed");
        lock(&self.errors).note(id, command, status);
    }

    /// Posts the completion of a command, for which an entry was reserved.
    pub(crate) fn post(&self, id: u16, command: u16, answer: Answer) {
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
        // This was the last command of a queue that is being deleted.
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
        // The guest polls the phase bit in the last word, so the last word is stored last.
        memory.write(address, &first_words(result, id, head))?;
        memory.store(address.saturating_add(12), last_word(command, status, phase).to_le())
    }

    /// Removes a deleted submission queue from its completion queue.
    pub(crate) fn forget_user(&self, completion: u16, id: u16) {
        if let Some(mut place) = self.completion(completion)
            && let Some(queue) = place.as_mut()
        {
            queue.users.retain(|user| *user != id);
        }
    }

    /// Raises the vector of a completion queue if there are new completions.
    pub(crate) fn signal(&self, completion: u16) {
        if let Some(mut place) = self.completion(completion)
            && let Some(queue) = place.as_mut()
            && let Some(vector) = queue.owed()
        {
            self.common.bus.interrupts.raise(vector);
        }
    }
}
