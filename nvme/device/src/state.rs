//! The state of an enabled controller, which its worker owns, and how commands complete.

use crate::counts::{add, get};
use crate::data::Data;
use crate::events::{Event, Events};
use crate::features::Features;
use crate::io::Io;
use crate::logs::Errors;
use crate::queues::{Problem, Queues};
use crate::registers::Setup;
use crate::run::Run;
use crate::{Answer, Common};
use std::sync::Arc;
use tracing::{debug, warn};
use vfio_irq_nvme_spec::{Command, Status};
use vfio_irq_user::errno;

pub(crate) struct State {
    pub(crate) common: Arc<Common>,
    pub(crate) run: Arc<Run>,
    pub(crate) queues: Queues,
    pub(crate) data: Data,
    pub(crate) io: Io,
    /// I/O queues that the guest may create.
    pub(crate) granted: u16,
    pub(crate) features: Features,
    pub(crate) events: Events,
    pub(crate) errors: Errors,
}

impl State {
    pub(crate) fn new(common: Arc<Common>, run: Arc<Run>, setup: Setup) -> Self {
        add(&common.counters.enabled, 1);
        Self {
            queues: Queues::new(common.queues, setup),
            data: Data::new(Arc::clone(&common), setup.page),
            io: Io::new(Arc::clone(&common)),
            granted: common.queues,
            features: Features::new(common.queues),
            events: Events::default(),
            errors: Errors::default(),
            common,
            run,
        }
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
    pub(crate) fn tell_events(&mut self) {
        while self.events.is_ready() && self.reserve_admin() {
            if let Some((command, word)) = self.events.next() {
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
        self.events.happen(event);
        self.tell_events();
    }

    /// Forgets what the guest wrote to the doorbell of a queue that it deleted.
    pub(crate) fn clear_doorbell(&self, place: usize) {
        self.run.clear(place);
    }

    /// Counts and logs a failed command.
    pub(crate) fn note(&mut self, id: u16, command: &Command, status: Status) {
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
        self.errors.note(id, command, status);
    }
}
