//! Why there is no report.

use std::io;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system says no.
    #[error("{what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A client or a server says no.
    #[error("{what}: {source}")]
    Device {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The contestants' process did not start.
    #[error(
        "the process of the servers did not start: it ended, or said something else than where"
    )]
    NoServers,
    /// The command line asks for a processor that there is not.
    #[error("--cpus {asked} is not possible: this process may use the processors {there}")]
    Processors {
        /// What was asked for.
        asked: String,
        /// What there is.
        there: String,
    },
    /// Less than one round, or nothing in it.
    #[error("{0} must be at least 1")]
    Nothing(&'static str),
    /// The raise that was to be measured did not signal.
    #[error("the interrupt was not signalled, which was to be measured")]
    NotSignalled,
}

impl Error {
    /// For `map_err`: what was to be done when the system said no.
    pub fn system<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }

    /// For `map_err`: what was to be done when the other side said no.
    pub fn device<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: &'static str,
    ) -> impl Fn(E) -> Self {
        move |source| Self::Device { what, source: source.into() }
    }
}
