//! A server: many devices in one process. Each device has a socket and at most one client.
//!
//! One thread accepts clients, and one thread per client serves it. So a slow or hostile client
//! cannot delay other clients. A device without a client has no thread.

mod connection;
mod listening;
mod refusals;

use crate::device::{Device, Endpoint};
use crate::pci::Function;
use crate::session::Grants;
use crate::transport;
use listening::Listening;
use rustix::event::epoll;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
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
    fn grants(&self) -> Grants {
        Grants { transfer: self.transfer, dma_maps: self.dma_maps }
    }

    /// Returns the size of the longest valid message.
    fn longest(&self) -> usize {
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
struct Shared {
    options: Options,
    /// Readable once the server is to stop.
    stop: Arc<OwnedFd>,
    stopping: Arc<AtomicBool>,
    /// Wakes the thread that accepts clients.
    wake: OwnedFd,
    epoll: OwnedFd,
    sockets: Mutex<Vec<Arc<Listening>>>,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        transport::wake(&self.stop);
    }
}

/// Serves devices until it is dropped or stopped.
///
/// ```no_run
/// use vfio_irq_user::{Options, Server};
///
/// let server = Server::start(Options::default())?;
/// let stopper = server.stopper();
/// // A signal handler's thread calls `stopper.stop()`.
/// server.wait();
/// # drop(stopper);
/// # Ok::<(), vfio_irq_user::ServerError>(())
/// ```
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Stops a server, from any thread.
#[derive(Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// Makes the server close all connections and end. Does not wait for the end.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").finish_non_exhaustive()
    }
}

impl Server {
    /// Starts a server without devices.
    ///
    /// # Errors
    ///
    /// Returns [`ServerError::Start`] if the process has no more threads or descriptors.
    pub fn start(options: Options) -> Result<Self, ServerError> {
        let started = |source: rustix::io::Errno| ServerError::Start(source.into());
        let shared = Arc::new(Shared {
            options,
            stop: Arc::new(transport::waker().map_err(started)?),
            stopping: Arc::new(AtomicBool::new(false)),
            wake: transport::waker().map_err(started)?,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(started)?,
            sockets: Mutex::default(),
        });
        let its = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("vfio-user".into())
            .spawn(move || listening::run(&its))
            .map_err(ServerError::Start)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Serves a device on a socket. Replaces a stale socket, on which no server listens.
    ///
    /// # Errors
    ///
    /// Returns [`ServerError::InUse`] if another server listens there, and [`ServerError::Listen`]
    /// if the socket cannot be created.
    pub fn add<D: Device + 'static>(
        &self,
        path: impl AsRef<Path>,
        function: Function,
        make: impl FnOnce(crate::Bus) -> D,
    ) -> Result<(), ServerError> {
        if self.shared.is_stopping() {
            return Err(ServerError::Stopped);
        }
        let endpoint = Endpoint::new(function, make);
        let listening = Arc::new(Listening::bind(path.as_ref(), endpoint)?);
        let mut sockets = self.shared.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        listening::watch(&self.shared, &listening, sockets.len()).map_err(|source| {
            ServerError::Listen { path: path.as_ref().to_owned(), source: source.into() }
        })?;
        sockets.push(listening);
        Ok(())
    }

    /// Returns a handle that stops the server.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.shared))
    }

    /// Waits until the server was stopped and all its threads have ended.
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic of that thread.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop();
        self.join();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
