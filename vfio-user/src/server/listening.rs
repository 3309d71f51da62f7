//! A device, its socket, and its clients.

use super::shared::{ServerError, Shared};
use crate::device::Endpoint;
use crate::irq::DeviceIrqs;
use crate::transport;
use parking_lot::{Mutex, MutexGuard};
use rustix::event::epoll;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

/// All sockets of a server, in the order in which they were added.
pub(super) type Sockets = Mutex<Vec<Arc<Listening>>>;

/// One device and its socket.
pub(super) struct Listening {
    pub(super) path: PathBuf,
    pub(super) listener: UnixListener,
    inode: u64,
    pub(super) irqs: Arc<DeviceIrqs>,
    /// Locked by the thread that serves the client, as long as the client is connected.
    pub(super) endpoint: Mutex<Endpoint>,
    clients: Mutex<Clients>,
}

/// The current client of a device, and the next.
#[derive(Default)]
pub(super) struct Clients {
    pub(super) served: bool,
    pub(super) thread: Option<JoinHandle<()>>,
    /// The socket of the current client. The serving thread owns it.
    pub(super) socket: Weak<OwnedFd>,
    pub(super) next: Option<(Instant, OwnedFd)>,
}

impl Listening {
    pub(super) fn bind(path: &Path, endpoint: Endpoint) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Listen { path: path.to_owned(), source };
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !is_abandoned(path) {
                    return Err(ServerError::InUse { path: path.to_owned() });
                }
                std::fs::remove_file(path).map_err(failed)?;
                UnixListener::bind(path).map_err(failed)?
            }
            bound => bound.map_err(failed)?,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let inode = std::fs::symlink_metadata(path).map_err(failed)?.ino();
        let irqs = Arc::clone(&endpoint.irqs);
        let (endpoint, clients) = (Mutex::new(endpoint), Mutex::default());
        Ok(Self { path: path.to_owned(), listener, inode, irqs, endpoint, clients })
    }

    pub(super) fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock()
    }

    /// Adds the socket to the epoll set, as `place` among the sockets of the server.
    pub(super) fn watch(&self, shared: &Shared, place: usize) -> Result<(), ServerError> {
        let data = epoll::EventData::new_u64(place as u64);
        epoll::add(&shared.epoll, &self.listener, data, epoll::EventFlags::IN).map_err(|source| {
            ServerError::Listen { path: self.path.clone(), source: source.into() }
        })
    }

    /// Marks the device as free.
    pub(super) fn leave(&self, shared: &Shared) {
        self.clients().served = false;
        transport::wake(&shared.wake);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode);
        if ours {
            // Failure is harmless: another process may have removed the socket.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns true if the path is a socket on which no server listens.
fn is_abandoned(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).err().is_some_and(refused)
}
