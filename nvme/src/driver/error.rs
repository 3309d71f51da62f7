//! What can go wrong, as sentences.

use super::Status;
use std::io;
use std::time::Duration;

/// Why a driver's call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device could not be opened.
    #[error("{bdf} cannot be opened: {why}")]
    Open {
        /// Its address.
        bdf: String,
        /// Why, and what would help.
        why: String,
    },
    /// The device does not answer.
    #[error("{what} failed: {source}")]
    Access {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Every register reads as ones: the device was unplugged, or is turned off.
    #[error("the controller is gone: its registers read as ones")]
    Gone,
    /// The controller says that it cannot go on (CSTS.CFS).
    #[error("the controller reports a fatal error (CSTS.CFS): it must be reset, open it again")]
    Fatal,
    /// The controller does not become ready, or does not stop.
    #[error("the controller did not become {wanted} within {waited:?}")]
    NotReady {
        /// `ready`, `disabled` or `shut down`.
        wanted: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The controller is not one that this driver can use.
    #[error("the controller cannot be used: {0}")]
    Unfit(String),
    /// An interrupt could not be had.
    #[error(transparent)]
    Interrupt(#[from] vfio_irq::Error),
    /// Memory could not be had, or not be mapped for the device.
    #[error("{size} bytes of memory cannot be had for the controller: {source}")]
    Memory {
        /// How many bytes.
        size: u64,
        /// Why.
        source: io::Error,
    },
    /// The controller ended a command with an error.
    #[error("{command} ended with an error: {status}")]
    Status {
        /// Which command.
        command: &'static str,
        /// What the controller said.
        status: Status,
    },
    /// A command did not end.
    #[error("{command} on queue {queue} has not ended within {waited:?}")]
    Timeout {
        /// Which command.
        command: &'static str,
        /// On which queue.
        queue: u16,
        /// How long it was waited for.
        waited: Duration,
    },
    /// As many commands as the queue holds are under way.
    #[error("queue {queue} is full: {depth} commands are under way, take completions first")]
    Full {
        /// Which queue.
        queue: u16,
        /// How many it holds.
        depth: usize,
    },
    /// A call that waits for its own command alone found others under way.
    #[error(
        "{open} commands are under way on queue {queue}: take their completions before a call that waits"
    )]
    Busy {
        /// Which queue.
        queue: u16,
        /// How many.
        open: usize,
    },
    /// The controller wrote what makes no sense into a completion queue, which is used no more.
    #[error("the controller broke queue {queue}: {why}")]
    Broken {
        /// Which queue.
        queue: u16,
        /// What it did.
        why: String,
    },
    /// The queue is used no more after an earlier error.
    #[error("queue {queue} is of no more use after an earlier error: {}", instead(*queue))]
    Dead {
        /// Which queue.
        queue: u16,
    },
    /// The driver was closed.
    #[error("the controller was shut down by its driver")]
    Closed,
    /// There are no more queues.
    #[error("the controller has {most} I/O queues, and all are in use: delete one")]
    NoQueue {
        /// How many.
        most: u16,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Request(String),
}

/// What helps when a queue is of no more use.
fn instead(queue: u16) -> &'static str {
    match queue {
        // Without its admin queue a controller does nothing new.
        0 => "open the controller again",
        _ => "delete it",
    }
}

impl Error {
    pub(super) fn access(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Access { what, source }
    }
}
