//! The state that the threads of a server share, and its limits.

use crate::session::Grants;
use crate::transport;
use rustix::event::epoll;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The limits that a server imposes on its clients.
///
/// ```
/// use std::time::Duration;
/// use vfio_irq_user::Options;
///
/// // A host with more devices than processors: sleep at once, and limit slow clients to two seconds.
/// let options = Options { spin: Duration::ZERO, stall: Duration::from_secs(2), ..Options::default() };
/// assert_eq!(options.dma_maps, 16_384);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long a thread polls for the next message before it sleeps. Polling saves the wake-up for
    /// a busy client, and costs this much processor time after each message.
    pub spin: Duration,
    /// How long a client may take to finish a message, to read a message, or to reply.
    pub stall: Duration,
    /// How long a client may take to negotiate a version.
    pub handshake: Duration,
    /// How long a second client may wait for the first to disconnect. Then the server answers its
    /// VERSION with EBUSY. A third client gets EBUSY at once.
    pub succession: Duration,
    /// The limit of data bytes per message.
    pub transfer: u32,
    /// The limit of mappings per client.
    pub dma_maps: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            spin: Duration::from_micros(50),
            stall: Duration::from_secs(10),
            handshake: Duration::from_secs(5),
            succession: Duration::from_secs(1),
            transfer: crate::wire::DEFAULT_TRANSFER,
            dma_maps: 16_384,
        }
    }
}

impl Options {
    pub(super) fn grants(&self) -> Grants {
        Grants { transfer: self.transfer, dma_maps: self.dma_maps }
    }

    /// Returns the size of the longest valid message.
    pub(super) fn longest(&self) -> usize {
        // If a client ignores the limit, the default of the protocol applies.
        (self.transfer.max(crate::wire::DEFAULT_TRANSFER) as usize).saturating_add(32)
    }
}

/// The reason why a server could not start, or a socket could not be added.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another server listens on the socket.
    #[error("{path} is in use by another server")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system call failed.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system call failed.
    #[error("cannot start a server: {0}")]
    Start(#[source] io::Error),
    /// The server is stopping.
    #[error("the server was asked to stop")]
    Stopped,
}

/// The state that all threads of the server share.
pub(super) struct Shared {
    pub(super) options: Options,
    /// Readable once the server is to stop.
    pub(super) stop: Arc<OwnedFd>,
    pub(super) stopping: Arc<AtomicBool>,
    /// Wakes the thread that accepts clients.
    pub(super) wake: OwnedFd,
    pub(super) epoll: OwnedFd,
}

impl Shared {
    pub(super) fn new(options: Options) -> rustix::io::Result<Self> {
        Ok(Self {
            options,
            stop: Arc::new(transport::waker()?),
            stopping: Arc::default(),
            wake: transport::waker()?,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        })
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        transport::wake(&self.stop);
    }
}
