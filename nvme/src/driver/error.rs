//! The errors of the driver.

use super::Status;
use std::io;
use std::time::Duration;

/// The reason why a call of the driver failed.
///
/// ```
/// use vfio_irq_nvme::driver::{Driver, Error, Options, Socket};
/// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
/// # let driver = Driver::open(Socket::connect(&path)?, Options::default())?;
///
/// let mut queue = driver.create_queue(1)?;
/// let beyond = driver.info().blocks;
/// let error = queue.read(beyond, &driver.buffer(512)?).unwrap_err();
/// assert_eq!(error.to_string(), "Read ended with an error: LBA out of range (type 0x0, code 0x80)");
/// let Error::Status { status, .. } = error else { return Err(error.into()) };
/// // Asking again would not help.
/// assert!(status.is_final());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
        /// What was tried.
        what: &'static str,
        /// Why.
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
        /// How long it was waited for.
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
        /// How many bytes.
        size: u64,
        /// Why.
        source: io::Error,
    },
    /// The controller completed a command with an error status.
    #[error("{command} ended with an error: {status}")]
    Status {
        /// Which command.
        command: &'static str,
        /// What the controller said.
        status: Status,
    },
    /// A command did not complete in time.
    #[error("{command} on queue {queue} has not ended within {waited:?}")]
    Timeout {
        /// Which command.
        command: &'static str,
        /// On which queue.
        queue: u16,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The queue is full.
    #[error("queue {queue} is full: {depth} commands are under way, take completions first")]
    Full {
        /// Which queue.
        queue: u16,
        /// How many it holds.
        depth: usize,
    },
    /// A blocking call found other commands outstanding.
    #[error(
        "{open} commands are under way on queue {queue}: take their completions before a call that waits"
    )]
    Busy {
        /// Which queue.
        queue: u16,
        /// How many.
        open: usize,
    },
    /// The controller wrote an invalid completion. The queue is dead.
    #[error("the controller broke queue {queue}: {why}")]
    Broken {
        /// Which queue.
        queue: u16,
        /// What it did.
        why: String,
    },
    /// The queue is dead after an earlier error.
    #[error("queue {queue} is of no more use after an earlier error: {}", instead(*queue))]
    Dead {
        /// Which queue.
        queue: u16,
    },
    /// The driver was closed.
    #[error("the controller was shut down by its driver")]
    Closed,
    /// The controller has no more queues.
    #[error("the controller has {most} I/O queues, and all are in use: delete one")]
    NoQueue {
        /// How many.
        most: u16,
    },
    /// The request is invalid.
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
