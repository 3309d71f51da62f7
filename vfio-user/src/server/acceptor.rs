//! The thread that accepts clients.

use super::connection;
use super::listening::{Clients, Listening, Sockets};
use super::refusals::Refusals;
use super::shared::Shared;
use crate::transport;
use rustix::event::epoll;
use rustix::net::{SocketFlags, accept_with};
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

const STOP: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// Accepts the clients of all sockets. Serves one client of each socket, lets one wait, and refuses
/// others.
pub(super) struct Acceptor {
    shared: Arc<Shared>,
    sockets: Arc<Sockets>,
    /// The sockets where a second client waits, the longest wait first.
    waiting: VecDeque<Arc<Listening>>,
    refusals: Refusals,
}

impl Acceptor {
    pub(super) fn new(shared: Arc<Shared>, sockets: Arc<Sockets>) -> Self {
        Self { shared, sockets, waiting: VecDeque::new(), refusals: Refusals::default() }
    }

    /// Accepts clients until the server is stopped. Then joins the threads that serve clients.
    pub(super) fn run(mut self) {
        let own = [(&*self.shared.stop, STOP), (&self.shared.wake, WAKE)];
        for (fd, data) in own {
            let data = epoll::EventData::new_u64(data);
            if let Err(error) = epoll::add(&self.shared.epoll, fd, data, epoll::EventFlags::IN) {
                warn!(%error, "cannot wait for clients");
                self.shared.stop();
            }
        }
        while !self.shared.is_stopping() {
            self.turn();
        }
        let all = std::mem::take(&mut *self.sockets.lock());
        drop(self);
        for listening in &all {
            if let Some(socket) = listening.clients().socket.upgrade() {
                // The thread may sleep in `recvmsg(2)`; the shutdown wakes it. ENOTCONN is harmless.
                let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Read);
            }
        }
        all.into_iter().for_each(join);
    }

    /// Returns how long the client with the longest wait may still wait.
    fn succession_left(&self) -> Option<Duration> {
        let first = self.waiting.front()?;
        let since = first.clients().next.as_ref().map(|next| next.0);
        // A client that no longer waits is handled at once.
        let left =
            since.map(|since| self.shared.options.succession.saturating_sub(since.elapsed()));
        Some(left.unwrap_or_default())
    }

    /// Waits once, and handles all events.
    fn turn(&mut self) {
        let left = [self.succession_left(), self.refusals.expire()].into_iter().flatten().min();
        let timeout = left.map(transport::timespec);
        let mut events = [MaybeUninit::uninit(); 32];
        let events = match epoll::wait(&self.shared.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return,
            Err(error) => {
                warn!(%error, "cannot wait for clients");
                return self.shared.stop();
            }
        };
        for event in events {
            match event.data.u64() {
                STOP => return,
                WAKE => transport::consume(&self.shared.wake),
                key if key & Refusals::KEY != 0 => self.refusals.handle(key),
                place => {
                    let place = usize::try_from(place).unwrap_or(usize::MAX);
                    let listening = self.sockets.lock().get(place).map(Arc::clone);
                    if let Some(listening) = listening {
                        self.accept(&listening);
                    }
                }
            }
        }
        for _ in 0..self.waiting.len() {
            let Some(listening) = self.waiting.pop_front() else { break };
            if self.succeed(&listening) {
                self.waiting.push_back(listening);
            }
        }
    }

    /// Accepts a client: serves it, lets it wait, or refuses it.
    fn accept(&mut self, listening: &Arc<Listening>) {
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
            self.start(listening, &mut clients, socket);
        } else if clients.next.is_none() {
            clients.next = Some((Instant::now(), socket));
            drop(clients);
            // The first client may have disconnected while its thread blocks in an eventfd write.
            listening.irqs.make_room();
            self.waiting.push_back(Arc::clone(listening));
        } else {
            debug!(path = %listening.path.display(), "a client is refused: one is there, one waits");
            self.refusals.refuse(&self.shared, socket);
        }
    }

    /// Serves the waiting client, or refuses it after its time. Returns true if it still waits.
    fn succeed(&mut self, listening: &Arc<Listening>) -> bool {
        let mut clients = listening.clients();
        let Some((since, socket)) = clients.next.take() else { return false };
        if !clients.served {
            self.start(listening, &mut clients, socket);
            return false;
        }
        if since.elapsed() < self.shared.options.succession {
            clients.next = Some((since, socket));
            return true;
        }
        warn!(path = %listening.path.display(), "a client is refused: the device has one already");
        self.refusals.refuse(&self.shared, socket);
        false
    }

    fn start(&mut self, listening: &Arc<Listening>, clients: &mut Clients, socket: OwnedFd) {
        // The previous thread has marked the device as free, so it ends at once.
        let _ = clients.thread.take().map(JoinHandle::join);
        let (shared, device) = (Arc::clone(&self.shared), Arc::clone(listening));
        let kept = Arc::new(socket);
        let socket = Arc::clone(&kept);
        let thread = std::thread::Builder::new()
            .name("vfio-user client".into())
            .stack_size(512 << 10)
            .spawn(move || connection::serve(&shared, &device, socket));
        match thread {
            Ok(thread) => {
                clients.served = true;
                clients.thread = Some(thread);
                clients.socket = Arc::downgrade(&kept);
            }
            Err(error) => {
                warn!(path = %listening.path.display(), %error, "a client is refused: no thread");
                if let Some(socket) = Arc::into_inner(kept) {
                    self.refusals.refuse(&self.shared, socket);
                }
            }
        }
    }
}

/// Joins the thread that serves the client of a socket, if there is one.
fn join(listening: Arc<Listening>) {
    let mut clients = listening.clients();
    let (thread, next) = (clients.thread.take(), clients.next.take());
    drop((clients, next));
    let Some(thread) = thread else { return };
    while !thread.is_finished() {
        // The thread may block in a write to an eventfd that the client has filled.
        listening.irqs.make_room();
        std::thread::sleep(Duration::from_millis(1));
    }
    // The panic hook has reported a panic of that thread.
    let _ = thread.join();
}
