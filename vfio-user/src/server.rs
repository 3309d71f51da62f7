//! Many devices in one process: a socket and at most one client each.
//!
//! A thread waits for clients, and each client is served by a thread of its own, so that nothing a
//! client does or fails to do reaches another: a device without a client has no thread.

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

/// How a server treats its clients.
///
/// ```
/// use std::time::Duration;
/// use vfio_irq_user::Options;
///
/// // A host with more devices than processors: sleep at once, and let nobody hold a device for long.
/// let options = Options { spin: Duration::ZERO, stall: Duration::from_secs(2), ..Options::default() };
/// assert_eq!(options.dma_maps, 16_384);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long to look for a client's next message before sleeping. A client that is busy is then
    /// answered without a wake-up, at the price of this much of a processor after each message.
    pub spin: Duration,
    /// How long a client may take to finish a message that it began, to read what it was sent, and to
    /// reply to what it was asked.
    pub stall: Duration,
    /// How long a client may take to agree on a version, from its first byte to its last.
    pub handshake: Duration,
    /// How long a second client may wait for the first one to leave. After that its VERSION is answered
    /// with EBUSY, and that of a third client at once.
    pub succession: Duration,
    /// Bytes of data that one message may have.
    pub transfer: u32,
    /// Mappings that one client may have.
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

    /// The longest message that makes sense.
    fn longest(&self) -> usize {
        // A client that is not told of a limit goes by the default.
        (self.transfer.max(crate::wire::DEFAULT_TRANSFER) as usize).saturating_add(32)
    }
}

/// Why a server, or one of its sockets, is not there.
///
/// ```
/// use vfio_irq_user::{Options, Server, ServerError};
/// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
/// let server = Server::start(Options::default())?;
/// let error = server.add("/nonexistent/device.sock", function, make).unwrap_err();
/// assert!(matches!(error, ServerError::Listen { .. }));
/// assert!(error.to_string().starts_with("cannot listen on /nonexistent/device.sock: "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody answers there.
    #[error("{path} is in use by another server")]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// The system says no.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system says no.
    #[error("cannot start a server: {0}")]
    Start(#[source] io::Error),
    /// It is about to end.
    #[error("the server was asked to stop")]
    Stopped,
}

/// What all threads share.
struct Shared {
    options: Options,
    /// Readable from the moment on that the server is to stop.
    stop: Arc<OwnedFd>,
    stopping: Arc<AtomicBool>,
    /// Wakes the thread that waits for clients.
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

/// Devices that are served, until this is dropped or stopped.
///
/// ```
/// # use vfio_irq_user::{Client, ClientOptions, Options, Server};
/// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("device.sock");
/// let server = Server::start(Options::default())?;
/// server.add(&path, function, make)?;
/// let client = Client::connect(&path, ClientOptions::default())?;
/// drop(server);
/// // Every connection is over then, and every thread has ended.
/// assert!(client.device_info().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Stops a server, from any thread.
///
/// ```
/// # use vfio_irq_user::{Options, Server};
/// let server = Server::start(Options::default())?;
/// let stopper = server.stopper();
/// // For instance when a signal came.
/// let signalled = std::thread::spawn(move || stopper.stop());
/// server.wait();
/// # signalled.join().expect("no panic");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// Has the server close every connection and end. Does not wait for it.
    ///
    /// ```
    /// # use vfio_irq_user::{Options, Server, ServerError};
    /// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    /// # let folder = tempfile::tempdir()?;
    /// let server = Server::start(Options::default())?;
    /// server.stopper().stop();
    /// let late = server.add(folder.path().join("late.sock"), function, make);
    /// assert!(matches!(late, Err(ServerError::Stopped)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// A server without devices.
    ///
    /// # Errors
    ///
    /// When this process can have no more threads or descriptors.
    ///
    /// ```
    /// # use vfio_irq_user::{Client, ClientError, ClientOptions, Options, Server};
    /// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("device.sock");
    /// // A process has one for all its devices; they are added while others have clients.
    /// let server = Server::start(Options { dma_maps: 1, ..Options::default() })?;
    /// server.add(&path, function, make)?;
    /// let client = Client::connect(&path, ClientOptions::default())?;
    /// client.dma_map(0, 0x1000, None)?;
    /// // The server has said how many it takes, so the client does not even ask.
    /// let more = client.dma_map(0x1000, 0x1000, None);
    /// assert!(matches!(more, Err(ClientError::TooManyMappings { most: 1 })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// Serves a device on a socket. A socket that nobody answers on any more is replaced.
    ///
    /// # Errors
    ///
    /// When somebody answers there, or the system refuses the socket.
    ///
    /// ```
    /// # use vfio_irq_user::{Options, Server, ServerError};
    /// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("device.sock");
    /// let server = Server::start(Options::default())?;
    /// server.add(&path, function.clone(), make)?;
    /// // A socket that somebody answers on is not taken away.
    /// let again = server.add(&path, function, make);
    /// assert!(matches!(again, Err(ServerError::InUse { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// What stops it.
    ///
    /// ```
    /// # use vfio_irq_user::{Options, Server};
    /// let server = Server::start(Options::default())?;
    /// // Clones are the same, for as many threads as may want to end it.
    /// let (one, other) = (server.stopper(), server.stopper());
    /// one.stop();
    /// other.stop();
    /// server.wait();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.shared))
    }

    /// Waits until it was stopped, every client is gone, and every thread has ended.
    ///
    /// ```
    /// # use vfio_irq_user::{Client, ClientOptions, Options, Server};
    /// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("device.sock");
    /// # let server = Server::start(Options::default())?;
    /// # server.add(&path, function, make)?;
    /// let client = Client::connect(&path, ClientOptions::default())?;
    /// let stopper = server.stopper();
    /// let served = std::thread::spawn(move || server.wait());
    /// assert!(client.device_info().is_ok(), "it serves while that thread waits");
    /// stopper.stop();
    /// served.join().expect("no panic");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic there was reported already, and there is nothing left to end.
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
