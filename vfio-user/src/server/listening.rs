//! Accepts clients.

use super::refusals::Refusals;
use super::{ServerError, Shared, connection};
use crate::device::Endpoint;
use crate::irq::Table;
use crate::transport;
use rustix::event::{Timespec, epoll};
use rustix::net::{SocketFlags, accept_with};
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

const STOP: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// One device and its socket.
pub(super) struct Listening {
    pub(super) path: PathBuf,
    listener: UnixListener,
    inode: u64,
    irqs: Arc<Table>,
    /// Locked by the thread that serves the client, as long as the client is connected.
    pub(super) endpoint: Mutex<Endpoint>,
    clients: Mutex<Clients>,
}

/// The current client of a device, and the next.
#[derive(Default)]
struct Clients {
    served: bool,
    thread: Option<JoinHandle<()>>,
    /// The socket of the current client. The serving thread owns it.
    socket: Weak<OwnedFd>,
    next: Option<(Instant, OwnedFd)>,
}

/// The clients of all sockets that are not served.
#[derive(Default)]
struct Door {
    /// The sockets where a second client waits, the longest wait first.
    waiting: VecDeque<Arc<Listening>>,
    refusals: Refusals,
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

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Adds a socket to the epoll set.
pub(super) fn watch(
    shared: &Shared,
    listening: &Listening,
    place: usize,
) -> rustix::io::Result<()> {
    let data = epoll::EventData::new_u64(place as u64);
    epoll::add(&shared.epoll, &listening.listener, data, epoll::EventFlags::IN)
}

/// Accepts clients until the server is stopped. Then joins the threads that serve clients.
pub(super) fn run(shared: &Arc<Shared>) {
    let own = [(&*shared.stop, STOP), (&shared.wake, WAKE)];
    for (fd, data) in own {
        let data = epoll::EventData::new_u64(data);
        if let Err(error) = epoll::add(&shared.epoll, fd, data, epoll::EventFlags::IN) {
            warn!(%error, "cannot wait for clients");
            shared.stop();
        }
    }
    let mut door = Door::default();
    while !shared.is_stopping() {
        turn(shared, &mut door);
    }
    drop(door);
    let all = std::mem::take(&mut *sockets(shared));
    for listening in &all {
        if let Some(socket) = listening.clients().socket.upgrade() {
            // The thread may sleep in `recvmsg(2)`; the shutdown wakes it. ENOTCONN is harmless.
            let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Read);
        }
    }
    for listening in all {
        let mut clients = listening.clients();
        let (thread, next) = (clients.thread.take(), clients.next.take());
        drop((clients, next));
        let Some(thread) = thread else { continue };
        while !thread.is_finished() {
            // The thread may block in a write to an eventfd that the client has filled.
            listening.irqs.make_room();
            std::thread::sleep(Duration::from_millis(1));
        }
        // The panic hook has reported a panic of that thread.
        let _ = thread.join();
    }
}

fn sockets(shared: &Shared) -> MutexGuard<'_, Vec<Arc<Listening>>> {
    shared.sockets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how long the client with the longest wait may still wait.
fn succession_left(shared: &Shared, door: &Door) -> Option<Duration> {
    let first = door.waiting.front()?;
    let since = first.clients().next.as_ref().map(|next| next.0);
    // A client that no longer waits is handled at once.
    let left = since.map(|since| shared.options.succession.saturating_sub(since.elapsed()));
    Some(left.unwrap_or_default())
}

/// Waits once, and handles all events.
fn turn(shared: &Arc<Shared>, door: &mut Door) {
    let left = [succession_left(shared, door), door.refusals.expire()].into_iter().flatten().min();
    let timeout = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    let mut events = [MaybeUninit::uninit(); 32];
    let events = match epoll::wait(&shared.epoll, &mut events, timeout.as_ref()) {
        Ok((events, _)) => events,
        Err(rustix::io::Errno::INTR) => return,
        Err(error) => {
            warn!(%error, "cannot wait for clients");
            return shared.stop();
        }
    };
    for event in events {
        match event.data.u64() {
            STOP => return,
            WAKE => transport::calm(&shared.wake),
            key if key & Refusals::KEY != 0 => door.refusals.look(key),
            place => {
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                let listening = sockets(shared).get(place).map(Arc::clone);
                if let Some(listening) = listening {
                    receive(shared, &listening, door);
                }
            }
        }
    }
    let Door { waiting, refusals } = door;
    waiting.retain(|listening| succeed(shared, listening, refusals));
}

/// Accepts a client: serves it, lets it wait, or refuses it.
fn receive(shared: &Arc<Shared>, listening: &Arc<Listening>, door: &mut Door) {
    let socket = match accept_with(&listening.listener, SocketFlags::CLOEXEC) {
        Ok(socket) => socket,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
        Err(error) => {
            // EMFILE is the likely error. Descriptors return when clients disconnect.
            warn!(path = %listening.path.display(), %error, "cannot take a client in");
            std::thread::sleep(Duration::from_millis(10));
            return;
        }
    };
    let mut clients = listening.clients();
    if !clients.served {
        start(shared, listening, &mut clients, socket, &mut door.refusals);
    } else if clients.next.is_none() {
        clients.next = Some((Instant::now(), socket));
        drop(clients);
        // The first client may have disconnected while its thread blocks in an eventfd write.
        listening.irqs.make_room();
        door.waiting.push_back(Arc::clone(listening));
    } else {
        debug!(path = %listening.path.display(), "a client is refused: one is there, one waits");
        door.refusals.refuse(shared, socket);
    }
}

/// Serves the waiting client, or refuses it after its time. Returns true if it still waits.
fn succeed(shared: &Arc<Shared>, listening: &Arc<Listening>, refusals: &mut Refusals) -> bool {
    let mut clients = listening.clients();
    let Some((since, socket)) = clients.next.take() else { return false };
    if !clients.served {
        start(shared, listening, &mut clients, socket, refusals);
        return false;
    }
    if since.elapsed() < shared.options.succession {
        clients.next = Some((since, socket));
        return true;
    }
    warn!(path = %listening.path.display(), "a client is refused: the device has one already");
    refusals.refuse(shared, socket);
    false
}

fn start(
    shared: &Arc<Shared>,
    listening: &Arc<Listening>,
    clients: &mut Clients,
    socket: OwnedFd,
    refusals: &mut Refusals,
) {
    // The previous thread has marked the device as free, so it ends at once.
    let _ = clients.thread.take().map(JoinHandle::join);
    let (its, device) = (Arc::clone(shared), Arc::clone(listening));
    let kept = Arc::new(socket);
    let socket = Arc::clone(&kept);
    let thread = std::thread::Builder::new()
        .name("vfio-user client".into())
        .stack_size(512 << 10)
        .spawn(move || connection::serve(&its, &device, socket));
    match thread {
        Ok(thread) => {
            clients.served = true;
            clients.thread = Some(thread);
            clients.socket = Arc::downgrade(&kept);
        }
        Err(error) => {
            warn!(path = %listening.path.display(), %error, "a client is refused: no thread");
            Arc::into_inner(kept).into_iter().for_each(|socket| refusals.refuse(shared, socket));
        }
    }
}
