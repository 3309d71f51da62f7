//! Why a call to a server failed.

use crate::transport::ConnectionError;
use crate::wire::Command;
use vfio_irq_engine::Errno;

/// Why something did not work.
///
/// ```
/// use vfio_irq_user::{Client, ClientError, ClientOptions};
///
/// let nowhere = Client::connect("/nonexistent/device.sock", ClientOptions::default());
/// let Err(error @ ClientError::Connect { .. }) = nowhere else { panic!("who answered?") };
/// assert!(error.to_string().starts_with("cannot connect to /nonexistent/device.sock: "));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("cannot connect to {path}: {source}")]
    Connect {
        /// Where.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection is of no more use.
    #[error("the connection is over: {0}")]
    Broken(#[from] ConnectionError),
    /// The server answered with an error; nothing else is wrong.
    #[error("the server refused {command:?}: {errno}")]
    Refused {
        /// What was asked.
        command: Command,
        /// Its answer.
        errno: Errno,
    },
    /// The server answered with what makes no sense.
    #[error("the server's answer to {0:?} makes no sense")]
    Senseless(Command),
    /// The server speaks another version.
    #[error("the server speaks version {0}.{1}")]
    Version(u16, u16),
    /// A message takes no more.
    #[error("the server takes {most} descriptors in one message, not {wanted}")]
    TooManyFds {
        /// How many it takes.
        most: usize,
        /// How many there are.
        wanted: usize,
    },
    /// The server has no more.
    #[error("the server takes {most} mappings at one time")]
    TooManyMappings {
        /// How many it takes.
        most: u32,
    },
    /// The server maps whole pages.
    #[error("the server maps pages of {page} bytes, address and size being multiples of that")]
    PageSize {
        /// The smallest page that it has said.
        page: u64,
    },
    /// A message takes no more.
    #[error("the server takes {most} bytes in one message, not {wanted}")]
    TooLong {
        /// How many it takes.
        most: usize,
        /// How many there are.
        wanted: usize,
    },
}

impl ClientError {
    /// The error that the server answered with, if that is what it is.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// The error number that the server answered with, where that is what it is.
impl From<ClientError> for std::io::Error {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused { errno, .. } => Self::from_raw_os_error(errno.raw()),
            ClientError::Connect { source, .. } => source,
            ClientError::Broken(ConnectionError::ReplyTimeout) => {
                Self::new(std::io::ErrorKind::TimedOut, error)
            }
            ClientError::Broken(_) => Self::new(std::io::ErrorKind::BrokenPipe, error),
            _ => Self::other(error),
        }
    }
}
