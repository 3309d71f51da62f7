//! The worker of an enabled controller: one thread, which owns the queues and all other state.
//!
//! ```text
//!   connection's thread ── doorbells, flags (`Run`) ──► worker ── completions, interrupts ──► guest
//! ```
//!
//! The worker reads the doorbells, fetches commands, carries them out one by one, and posts the
//! completions. Nothing but [`Run`] is shared, and nothing else has a lock.
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
use crate::registers::Setup;
use crate::run::Run;
use crate::state::State;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, warn};
use vfio_irq_nvme_spec::register::SHUTDOWN_DONE;

/// Commands of one queue before the next queue is served and the completions are signalled.
const BURST: usize = 8;

/// How long the worker polls the doorbells before it sleeps.
const SPIN: Duration = Duration::from_micros(20);

pub(crate) struct Worker {
    state: State,
    /// Written doorbells that were not read yet, with their values. Kept for its memory.
    heard: Vec<(usize, u32)>,
}

impl Worker {
    pub(crate) fn new(common: Arc<Common>, run: Arc<Run>, setup: Setup) -> Self {
        Self { state: State::new(common, run, setup), heard: Vec::new() }
    }

    /// Runs the worker until the controller is disabled.
    pub(crate) fn work(mut self) {
        let serial = Arc::clone(&self.state.common);
        debug!(serial = %serial.serial, "the thread of the controller begins");
        while !self.state.run.is_stopping() {
            let worked = self.state.run.is_active() && (self.listen() | self.serve());
            if self.state.run.take_shut_down() {
                self.shut_down();
            } else if !worked {
                self.rest();
            }
        }
        debug!(serial = %serial.serial, "the thread of the controller ends");
        self.state.run.over();
    }

    /// Waits for work: polls for a moment, then sleeps.
    fn rest(&self) {
        let start = Instant::now();
        while self.state.run.is_active() && self.state.run.is_quiet() && start.elapsed() < SPIN {
            std::hint::spin_loop();
        }
        if !self.state.run.is_active() || self.state.run.is_quiet() {
            std::thread::park();
        }
    }

    fn shut_down(&mut self) {
        if let Err(error) = self.state.common.disk.flush() {
            warn!(serial = %self.state.common.serial, %error, "what was written could not be flushed");
        }
        self.state.run.set_status(SHUTDOWN_DONE);
    }

    /// Reads the doorbells that the guest has written. Returns true if there was one.
    fn listen(&mut self) -> bool {
        let mut heard = std::mem::take(&mut self.heard);
        let any = self.state.run.listen(&mut heard);
        heard.drain(..).for_each(|(place, value)| self.hear(place, value));
        self.heard = heard;
        any
    }

    fn hear(&mut self, place: usize, value: u32) {
        let Ok(id) = u16::try_from(place / 2) else { return };
        let State { queues, common, .. } = &mut self.state;
        let heard = if place.is_multiple_of(2) {
            queues.hear_tail(id, value, &common.bus.memory)
        } else {
            queues.hear_head(id, value, &common.bus.memory)
        };
        if place == 1 {
            self.state.tell_events();
        }
        if let Err(problem) = heard {
            self.state.report(problem);
        }
    }

    /// Serves the next queue. Returns true if there was one.
    fn serve(&mut self) -> bool {
        let Some((id, completion)) = self.state.queues.next() else { return false };
        let mut more = true;
        for _ in 0..BURST {
            more = self.step(id);
            if !more || !self.state.run.is_active() || self.state.run.is_stopping() {
                break;
            }
        }
        if more {
            self.state.queues.enqueue(id);
        }
        self.state.queues.signal(completion, &self.state.common.bus.interrupts);
        true
    }

    /// Carries out one command of a queue. Returns false if there is none, or no room for its
    /// completion.
    fn step(&mut self, id: u16) -> bool {
        let command = match self.state.queues.fetch(id, &self.state.common.bus.memory) {
            Ok(Some(command)) => command,
            Ok(None) => return false,
            Err(problem) => {
                self.state.report(problem);
                return false;
            }
        };
        let answer = if id == 0 {
            self.state.admin(&command)
        } else {
            self.state.io.run(&mut self.state.data, &command).map(Some)
        };
        // A command without an answer completes later (Asynchronous Event Request).
        if let Some(answer) = answer.transpose() {
            if let Err(status) = answer {
                self.state.note(id, &command, status);
            }
            self.state.post(id, command.id(), answer);
        }
        if id == 0 {
            self.state.tell_events();
        }
        true
    }
}
