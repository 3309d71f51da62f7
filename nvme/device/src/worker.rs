//! The worker of an enabled controller: one thread, which owns the queues and all other state.
//!
//! ```text
//!   connection's thread ── doorbells, flags (`Run`) ──► worker ── completions, interrupts ──► guest
//! ```
//!
//! The worker reads the doorbells, fetches commands, carries them out one by one, and posts the
//! completions. Nothing but [`Run`] is shared, so nothing else has a lock.
//!
//! The trade-off: a command that takes long, such as a Flush of a slow disk, delays all queues of
//! its controller. Several workers would need locks for queues and for blocks, and a command that
//! does not block is as fast with one. The doorbell itself never waits: the thread of the
//! connection stores it.
//!
//! # No lost wake-up
//!
//! The connection's thread stores to `Run` first and unparks the worker second. `unpark` before
//! `park` makes the next `park` return at once, so the worker sees every store.

use crate::Common;
use crate::admin::Admin;
use crate::counts::{add, get};
use crate::data::Data;
use crate::events::Event;
use crate::io::Io;
use crate::queues::{Problem, Queues};
use crate::registers::Setup;
use crate::run::Run;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, warn};
use vfio_irq_nvme_spec::register::SHUTDOWN_DONE;
use vfio_irq_nvme_spec::{Command, Status};
use vfio_irq_user::errno;

/// Commands of one queue before the next queue is served and the completions are signalled.
const BURST: usize = 8;

/// How long the worker polls the doorbells before it sleeps.
const SPIN: Duration = Duration::from_micros(20);

/// The result of a command: the first word of its completion, or an error status.
pub(crate) type Answer = Result<u32, Status>;

pub(crate) struct Worker {
    pub(crate) common: Arc<Common>,
    run: Arc<Run>,
    pub(crate) queues: Queues,
    pub(crate) data: Data,
    pub(crate) io: Io,
    pub(crate) admin: Admin,
}

impl Worker {
    pub(crate) fn new(common: Arc<Common>, run: Arc<Run>, setup: Setup) -> Self {
        add(&common.counters.enabled, 1);
        Self {
            queues: Queues::new(common.queues, setup),
            data: Data::new(Arc::clone(&common), setup.page),
            io: Io::new(Arc::clone(&common)),
            admin: Admin::new(common.queues),
            common,
            run,
        }
    }

    /// Runs the worker until the controller is disabled.
    pub(crate) fn work(mut self) {
        let serial = Arc::clone(&self.common);
        debug!(serial = %serial.serial, "the thread of the controller begins");
        while !self.run.is_stopping() {
            let worked = self.run.is_active() && (self.listen() | self.serve());
            if self.run.take_shut_down() {
                self.shut_down();
            } else if !worked {
                self.rest();
            }
        }
        debug!(serial = %serial.serial, "the thread of the controller ends");
        self.run.over();
    }

    /// Waits for work: polls for a moment, then sleeps.
    fn rest(&self) {
        let start = Instant::now();
        while self.run.is_active() && self.run.is_quiet() && start.elapsed() < SPIN {
            std::hint::spin_loop();
        }
        if !self.run.is_active() || self.run.is_quiet() {
            std::thread::park();
        }
    }

    fn shut_down(&mut self) {
        if let Err(error) = self.common.disk.flush() {
            warn!(serial = %self.common.serial, %error, "what was written could not be flushed");
        }
        self.run.set_status(SHUTDOWN_DONE);
    }

    /// Reads the doorbells that the guest has written. Returns true if there was one.
    fn listen(&mut self) -> bool {
        let run = Arc::clone(&self.run);
        run.listen(|place| {
            let Ok(id) = u16::try_from(place / 2) else { return };
            let (memory, value) = (&self.common.bus.memory, run.doorbell(place));
            let heard = if place % 2 == 0 {
                self.queues.hear_tail(id, value, memory)
            } else {
                self.queues.hear_head(id, value, memory)
            };
            if place == 1 {
                self.tell_events();
            }
            if let Err(problem) = heard {
                self.report(problem);
            }
        })
    }

    /// Serves the next queue. Returns true if there was one.
    fn serve(&mut self) -> bool {
        let Some((id, completion)) = self.queues.next() else { return false };
        let mut more = true;
        for _ in 0..BURST {
            more = self.step(id);
            if !more || !self.run.is_active() || self.run.is_stopping() {
                break;
            }
        }
        if more {
            self.queues.enqueue(id);
        }
        self.queues.signal(completion, &self.common.bus.interrupts);
        true
    }

    /// Carries out one command of a queue. Returns false if there is none, or no room for its
    /// completion.
    fn step(&mut self, id: u16) -> bool {
        let command = match self.queues.fetch(id, &self.common.bus.memory) {
            Ok(Some(command)) => command,
            Ok(None) => return false,
            Err(problem) => {
                self.report(problem);
                return false;
            }
        };
        let answer = if id == 0 {
            self.admin(&command)
        } else {
            self.io.run(&mut self.data, &command).map(Some)
        };
        // A command without an answer completes later (Asynchronous Event Request).
        if let Some(answer) = answer.transpose() {
            if let Err(status) = answer {
                self.note(id, &command, status);
            }
            self.post(id, command.id(), answer);
        }
        if id == 0 {
            self.tell_events();
        }
        true
    }

    /// Posts the completion of a command, for which an entry was reserved.
    pub(crate) fn post(&mut self, id: u16, command: u16, answer: Answer) {
        if let Err(problem) = self.queues.post(id, command, answer, &self.common.bus.memory) {
            self.report(problem);
        }
    }

    /// Reserves an admin completion queue entry. Returns true on success.
    pub(crate) fn reserve_admin(&mut self) -> bool {
        match self.queues.reserve_admin(&self.common.bus.memory) {
            Ok(reserved) => reserved,
            // An invalid doorbell is not reported here, because reporting needs an entry.
            Err(Problem::Event(_)) => false,
            Err(problem) => {
                self.report(problem);
                false
            }
        }
    }

    /// Completes Asynchronous Event Requests while there are events and requests.
    fn tell_events(&mut self) {
        while self.admin.events.is_ready() && self.reserve_admin() {
            if let Some((command, word)) = self.admin.events.next() {
                self.post(0, command, Ok(word));
            }
        }
        self.queues.signal(0, &self.common.bus.interrupts);
    }

    /// Reports an event to the guest, or stops the controller with a fatal status (CSTS.CFS) if the
    /// guest's memory cannot be reached; the guest must disable it.
    pub(crate) fn report(&mut self, problem: Problem) {
        match problem {
            Problem::Event(event) => self.happen(event),
            Problem::Memory { what, errno: why } => {
                // During a reset or a disconnect these errors are expected.
                let ending = matches!(why, errno::ECANCELED | errno::ENOTCONN);
                if !ending && self.common.may_complain() {
                    warn!(serial = %self.common.serial, %why, "a controller has stopped: {what} cannot be reached in the guest's memory");
                }
                self.run.fail();
            }
        }
    }

    fn happen(&mut self, event: Event) {
        self.admin.events.happen(event);
        self.tell_events();
    }

    /// Forgets what the guest wrote to the doorbell of a queue that it deleted.
    pub(crate) fn clear_doorbell(&self, place: usize) {
        self.run.clear(place);
    }

    /// Counts and logs a failed command.
    fn note(&mut self, id: u16, command: &Command, status: Status) {
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
        self.admin.errors.note(id, command, status);
    }
}
