//! Drives the device, which interrupts all the time. Each queue works as a driver would: send a
//! command, wait for its interrupt, send the next.

use super::vector_states::{Vector, VectorStates};
use crate::Error;
use crate::devices::nvme::Controller;
use std::time::{Duration, Instant};

/// If a completion on an attached and unmasked vector has no signal after this time, it is a stall.
/// Only here time decides. With a longer limit, the next request would excuse most stalls.
const STALL: Duration = Duration::from_secs(1);

/// What the device and its interrupts did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Completions, each of which raised an interrupt.
    pub raised: u64,
    /// Completions whose interrupt was signalled.
    pub signalled: u64,
    /// Completions whose vector was detached or disabled meanwhile. They are owed no signal.
    pub excused: u64,
    /// Completions on an attached and unmasked vector without a signal for a second: lost
    /// interrupts.
    pub stalls: Vec<String>,
}

/// A command that was sent to a queue.
struct Ticket {
    /// The generation of the vector when the command was sent.
    generation: u64,
    completed: Option<Instant>,
}

/// Works on every queue until told to stop, and then until no signal is owed. Returns the tally.
pub fn run(controller: &mut Controller, states: &VectorStates) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let mut tickets: Vec<Option<Ticket>> = states.vectors.iter().map(|_| None).collect();
    loop {
        let stopping = states.stopping();
        for ((number, vector), ticket) in (0..).zip(&states.vectors).zip(&mut tickets) {
            if let Some(sent) = ticket {
                let completes = controller.reap(number)?;
                if sent.is_done(completes, number, vector, &mut tally) {
                    *ticket = None;
                }
            } else if !stopping {
                let generation = vector.generation();
                // Signals before the first command belong to no command.
                vector.take();
                controller.submit(number)?;
                *ticket = Some(Ticket { generation, completed: None });
            }
        }
        if stopping && tickets.iter().all(Option::is_none) {
            return Ok(tally);
        }
        states.pass();
        std::thread::yield_now();
    }
}

impl Ticket {
    /// Returns true if the command has completed and its signal has come, or is owed no more.
    fn is_done(
        &mut self,
        completes: bool,
        number: u32,
        vector: &Vector,
        tally: &mut Tally,
    ) -> bool {
        if completes && self.completed.is_none() {
            tally.raised += 1;
            self.completed = Some(Instant::now());
        }
        let Some(completed) = self.completed else { return false };
        if vector.take() > 0 {
            tally.signalled += 1;
            return true;
        }
        if vector.generation() != self.generation || !vector.is_attached() {
            tally.excused += 1;
            return true;
        }
        let Some(since) = vector.deliverable_since() else { return false };
        let stalls = completed.max(since).elapsed() > STALL && vector.take() == 0;
        if stalls {
            tally.stalls.push(format!("vector {number}, after {} completions", tally.raised));
        }
        stalls
    }
}

impl Tally {
    /// Adds the tally of another run.
    pub fn add(&mut self, more: Self) {
        self.raised += more.raised;
        self.signalled += more.signalled;
        self.excused += more.excused;
        self.stalls.extend(more.stalls);
    }
}
