//! Drives the device, which interrupts all the time. Each queue works as a driver would: send a
//! command, wait for its interrupt, send the next.

use super::board::Board;
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

/// Works on every queue of the board until told to stop, and then until no signal is owed. Returns
/// the tally.
pub fn run(controller: &mut Controller, board: &Board) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let mut tickets: Vec<Option<Ticket>> = board.vectors().map(|_| None).collect();
    loop {
        let stopping = board.stopping();
        for (vector, ticket) in board.vectors().zip(&mut tickets) {
            step(controller, board, vector, ticket, stopping, &mut tally)?;
        }
        if stopping && tickets.iter().all(Option::is_none) {
            return Ok(tally);
        }
        board.pass();
        std::thread::yield_now();
    }
}

fn step(
    controller: &mut Controller,
    board: &Board,
    vector: u32,
    slot: &mut Option<Ticket>,
    stopping: bool,
    tally: &mut Tally,
) -> Result<(), Error> {
    let Some(ticket) = slot else {
        if !stopping {
            let generation = board.generation(vector);
            // Signals before the first command belong to no command.
            board.take(vector);
            controller.submit(vector)?;
            *slot = Some(Ticket { generation, completed: None });
        }
        return Ok(());
    };
    if !controller.reap(vector)? && ticket.completed.is_none() {
        return Ok(());
    }
    let completed = *ticket.completed.get_or_insert_with(|| {
        tally.raised += 1;
        Instant::now()
    });
    if board.take(vector) > 0 {
        tally.signalled += 1;
        *slot = None;
    } else if board.generation(vector) != ticket.generation || !board.attached(vector) {
        tally.excused += 1;
        *slot = None;
    } else if let Some(open) = board.open_since(vector)
        && completed.max(open).elapsed() > STALL
        && board.take(vector) == 0
    {
        let after = tally.raised;
        tally.stalls.push(format!("vector {vector}, after {after} completions"));
        *slot = None;
    }
    Ok(())
}
