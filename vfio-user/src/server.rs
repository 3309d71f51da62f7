//! A server: many devices in one process. Each device has a socket and at most one client.
//!
//! One thread accepts clients, and one thread per client serves it. So a slow or hostile client
//! cannot delay other clients. A device without a client has no thread.
//!
//! # Lock order
//!
//! `Listening::endpoint` → the lock of [`crate::Memory`] → the locks of the link (`link.rs`). The
//! thread that serves a client holds the endpoint as long as the client is connected.
//!
//! The list of sockets and `Listening::clients` are locked for a moment, and no lock is taken under
//! them. The acceptor joins a thread while it holds `clients`. That cannot deadlock: the thread has
//! marked the device as free, and does not lock `clients` again.

mod acceptor;
mod connection;
mod listening;
mod refusals;
mod shared;

use crate::device::{Device, Endpoint};
use crate::pci::Function;
use acceptor::Acceptor;
use listening::{Listening, Sockets};
use shared::Shared;
pub use shared::{Options, ServerError};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

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
    sockets: Arc<Sockets>,
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
        let shared = Shared::new(options).map_err(|error| ServerError::Start(error.into()))?;
        let shared = Arc::new(shared);
        let sockets = Arc::default();
        let acceptor = Acceptor::new(Arc::clone(&shared), Arc::clone(&sockets));
        let thread = std::thread::Builder::new()
            .name("vfio-user".into())
            .spawn(move || acceptor.run())
            .map_err(ServerError::Start)?;
        Ok(Self { shared, sockets, thread: Some(thread) })
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
        let mut sockets = self.sockets.lock();
        listening.watch(&self.shared, sockets.len())?;
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
