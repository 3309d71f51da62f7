//! The errors of the client.

use crate::transport::ConnectionError;
use crate::wire::Command;
use vfio_irq_engine::Errno;

/// The reason why a call of the client failed.
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
    /// No server listens on the socket.
    #[error("cannot connect to {path}: {source}")]
    Connect {
        /// The path.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The connection has ended.
    #[error("the connection is over: {0}")]
    Broken(#[from] ConnectionError),
    /// The server's reply is an error. The connection continues.
    #[error("the server refused {command:?}: {errno}")]
    Refused {
        /// The command.
        command: Command,
        /// The errno of the reply.
        errno: Errno,
    },
    /// The server's reply is invalid.
    #[error("the server's answer to {0:?} makes no sense")]
    Senseless(Command),
    /// The server has another version.
    #[error("the server speaks version {0}.{1}")]
    Version(u16, u16),
    /// A message takes no more.
    #[error("the server takes {most} descriptors in one message, not {wanted}")]
    TooManyFds {
        /// The limit.
        most: usize,
        /// The number in the request.
        wanted: usize,
    },
    /// The server's limit of mappings is reached.
    #[error("the server takes {most} mappings at one time")]
    TooManyMappings {
        /// The limit.
        most: u32,
    },
    /// The server maps whole pages only.
    #[error("the server maps pages of {page} bytes, address and size being multiples of that")]
    PageSize {
        /// The smallest page that it has said.
        page: u64,
    },
    /// A message takes no more.
    #[error("the server takes {most} bytes in one message, not {wanted}")]
    TooLong {
        /// The limit.
        most: usize,
        /// The number in the request.
        wanted: usize,
    },
}

impl ClientError {
    /// Returns the errno of the server's reply, if the error is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// Converts to an I/O error with the errno of the reply, if there is one.
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
