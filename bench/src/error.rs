//! Errors that prevent a report.

use std::io;

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// The operation.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A client or a server failed.
    #[error("{what}: {source}")]
    Device {
        /// The operation.
        what: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The servers' process did not start.
    #[error(
        "the process of the servers did not start: it ended, or said something else than where"
    )]
    NoServers,
    /// The command line names a processor that the machine does not have.
    #[error("--cpus {asked} is not possible: this process may use the processors {there}")]
    Processors {
        /// The requested processors.
        asked: String,
        /// The existing processors.
        there: String,
    },
    /// Less than one round, or an empty round.
    #[error("{0} must be at least 1")]
    Nothing(&'static str),
    /// A measured raise did not signal.
    #[error("the interrupt was not signalled, which was to be measured")]
    NotSignalled,
}

impl Error {
    /// Returns a function for `map_err` that adds the operation to a failed system call.
    pub fn system<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }

    /// Returns a function for `map_err` that adds the operation to a failure of the other side.
    pub fn device<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: &'static str,
    ) -> impl Fn(E) -> Self {
        move |source| Self::Device { what, source: source.into() }
    }
}
