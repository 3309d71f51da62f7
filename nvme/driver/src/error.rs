//! The errors of the driver.

use super::Status;
use std::io;
use std::time::Duration;

/// The reason why a call of the driver failed.
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
    /// The device does not respond.
    #[error("{what} failed: {source}")]
    Access {
        /// The attempted action.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// All registers read as ones: the device was unplugged or powered off.
    #[error("the controller is gone: its registers read as ones")]
    Gone,
    /// The controller reports a fatal status (CSTS.CFS).
    #[error("the controller reports a fatal error (CSTS.CFS): it must be reset, open it again")]
    Fatal,
    /// The controller does not become ready, or does not stop, in time.
    #[error("the controller did not become {wanted} within {waited:?}")]
    NotReady {
        /// `ready`, `disabled` or `shut down`.
        wanted: &'static str,
        /// The time limit.
        waited: Duration,
    },
    /// This driver does not support the controller.
    #[error("the controller cannot be used: {0}")]
    Unfit(String),
    /// A vector could not be attached.
    #[error(transparent)]
    Interrupt(#[from] vfio_irq::Error),
    /// Memory could not be allocated, or not be mapped for the device.
    #[error("{size} bytes of memory cannot be had for the controller: {source}")]
    Memory {
        /// The size in bytes.
        size: u64,
        /// The cause.
        source: io::Error,
    },
    /// The controller completed a command with an error status.
    #[error("{command} ended with an error: {status}")]
    Status {
        /// The command.
        command: &'static str,
        /// The status of the controller.
        status: Status,
    },
    /// A command did not complete in time.
    #[error("{command} on queue {queue} has not ended within {waited:?}")]
    Timeout {
        /// The command.
        command: &'static str,
        /// The queue ID.
        queue: u16,
        /// The time limit.
        waited: Duration,
    },
    /// The queue is full.
    #[error("queue {queue} is full: {depth} commands are under way, take completions first")]
    Full {
        /// The queue ID.
        queue: u16,
        /// The limit.
        depth: usize,
    },
    /// A blocking call found other commands outstanding.
    #[error(
        "{open} commands are under way on queue {queue}: take their completions before a call that waits"
    )]
    Busy {
        /// The queue ID.
        queue: u16,
        /// The number.
        open: usize,
    },
    /// The controller wrote an invalid completion. The queue is dead.
    #[error("the controller broke queue {queue}: {why}")]
    Broken {
        /// The queue ID.
        queue: u16,
        /// The violation.
        why: String,
    },
    /// The queue is dead after an earlier error.
    #[error("queue {queue} is of no more use after an earlier error: {}", instead(*queue))]
    Dead {
        /// The queue ID.
        queue: u16,
    },
    /// The driver was closed.
    #[error("the controller was shut down by its driver")]
    Closed,
    /// The controller has no more queues.
    #[error("the controller has {most} I/O queues, and all are in use: delete one")]
    NoQueue {
        /// The number.
        most: u16,
    },
    /// The request is invalid.
    #[error("{0}")]
    Request(String),
}

/// Returns advice for a dead queue.
fn instead(queue: u16) -> &'static str {
    match queue {
        // Without its admin queue a controller does nothing new.
        0 => "open the controller again",
        _ => "delete it",
    }
}

impl Error {
    pub(crate) fn access(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Access { what, source }
    }
}
