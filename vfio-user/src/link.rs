//! The socket of a client, shared by commands of both directions.
//!
//! The session's thread handles the commands of the client. At the same time, threads of the device
//! send DMA_READ and DMA_WRITE, and the replies arrive on the same socket. If no thread reads the
//! socket, a waiting thread becomes the reader. The reader queues messages for other threads.
//!
//! There is no dedicated reader thread: it would cost a wake-up for each command.
//!
//! # Invariants
//!
//! - One thread reads the socket at a time: the one that has taken `Inbox::reader`. It puts the
//!   reader back before it waits for anything but the socket, and wakes the other threads then. So a
//!   reply is never stuck behind a thread that does not read.
//! - The session's thread never sends DMA_READ or DMA_WRITE; they fail with EDEADLK there. A client
//!   need not answer a command before its own command is answered, and QEMU does not. So the
//!   session's thread would wait for itself.
//! - A command is recorded as outstanding before it is sent. So its reply cannot come first.
//! - `dead` is set once and never cleared. A reply that arrived before is still taken.
//!
//! # Lock order
//!
//! `outbox` comes before `inbox`. No thread blocks on the socket while it holds `inbox`. A thread that
//! holds `outbox` may block in a send; it ends when the stall time is over or the server stops.

mod outstanding;
mod reader;

use crate::errno;
use crate::transport::{self, ConnectionError, Woken};
use crate::wire::{Command, Header, MAX_FDS, Reply};
pub(crate) use outstanding::Window;
use outstanding::{Failure, Outstanding};
use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use reader::Message;
use reader::Reader;
use rustix::event::PollFlags;
use rustix::net::RecvFlags;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};
use vfio_irq_engine::Errno;

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimits {
    /// How long a thread polls for the next message before it sleeps.
    pub(crate) spin: Duration,
    /// How long the peer may take to finish a message, or to reply.
    pub(crate) stall: Duration,
}

/// The result of waiting for a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// A command.
    Command,
    /// The watched eventfd is readable.
    Watched,
    /// The deadline expired.
    Timeout,
}

struct Inbox {
    /// `None` while a thread reads.
    reader: Option<Reader>,
    commands: VecDeque<Message>,
    outstanding: Outstanding,
    dead: Option<ConnectionError>,
    waiting: usize,
}

/// The socket of a client, for the session's thread and the threads of the device.
pub(crate) struct Link {
    socket: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
    stopping: Arc<AtomicBool>,
    /// Wakes the reader if a command was abandoned. The command may be that of the reader.
    abandoned: OwnedFd,
    /// The session's thread.
    answering: ThreadId,
    limits: TimeLimits,
    inbox: Mutex<Inbox>,
    /// Notified when the inbox has changed and a thread may wait for that.
    changed: Condvar,
    /// Held while a message is sent, so that messages of two threads do not mix.
    outbox: Mutex<()>,
}

impl Link {
    /// The greatest number of commands that the reader queues for the session.
    const KEPT: usize = 256;
    /// Limits of their bytes and descriptors.
    const KEPT_BYTES: usize = 8 << 20;
    const KEPT_FDS: usize = 4 * MAX_FDS;

    /// Creates a link. The calling thread becomes the session's thread. To stop the link, set the
    /// second element of `stop`, make the first readable, and shut down the socket for reading. All
    /// three are needed, because the session's thread may sleep in `poll(2)` or in `recvmsg(2)`.
    ///
    /// # Errors
    ///
    /// Returns EMFILE or ENFILE if no eventfd can be created.
    pub(crate) fn new(
        socket: Arc<OwnedFd>,
        stop: (Arc<OwnedFd>, Arc<AtomicBool>),
        limits: TimeLimits,
        longest: usize,
    ) -> rustix::io::Result<Self> {
        let inbox = Inbox {
            reader: Some(Reader::new(longest)),
            commands: VecDeque::new(),
            outstanding: Outstanding::default(),
            dead: None,
            waiting: 0,
        };
        Ok(Self {
            socket,
            stop: stop.0,
            stopping: stop.1,
            abandoned: transport::waker()?,
            answering: std::thread::current().id(),
            limits,
            inbox: Mutex::new(inbox),
            changed: Condvar::new(),
            outbox: Mutex::new(()),
        })
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Ends the connection, and wakes all waiting threads.
    pub(crate) fn end(&self, why: ConnectionError) {
        self.inbox.lock().dead.get_or_insert(why);
        // ENOTCONN is harmless: the peer may have closed the socket.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        self.changed.notify_all();
    }

    /// Sends a message. Returns an error if the connection has ended.
    pub(crate) fn send(&self, reply: &Reply) -> Result<(), ConnectionError> {
        self.send_alone(reply, &self.outbox.lock())
    }

    fn send_alone(
        &self,
        reply: &Reply,
        _alone: &MutexGuard<'_, ()>,
    ) -> Result<(), ConnectionError> {
        let stop = Some(self.stop.as_fd());
        transport::send(self.socket(), reply.bytes(), reply.fds(), self.limits.stall, stop)
            .map(drop)
    }

    /// Waits for the next command of the client. The wait also ends if the `watched` eventfd is
    /// readable, or at `deadline`. Returns an error if the connection has ended.
    pub(crate) fn next_command<'w>(
        &self,
        message: &mut Message,
        watched: impl Fn() -> Option<BorrowedFd<'w>>,
        deadline: Option<Instant>,
    ) -> Result<Arrival, ConnectionError> {
        loop {
            let mut inbox = self.inbox.lock();
            if let Some(command) = inbox.commands.pop_front() {
                *message = command;
                return Ok(Arrival::Command);
            }
            if let Some(why) = inbox.dead {
                return Err(why);
            }
            let Some(mut reader) = inbox.reader.take() else {
                self.sleep(inbox, Duration::from_millis(10));
                continue;
            };
            drop(inbox);
            let arrival = self.read_command(&mut reader, message, &watched, deadline);
            let mut inbox = self.inbox.lock();
            inbox.reader = Some(reader);
            if inbox.waiting > 0 {
                self.changed.notify_all();
            }
            return arrival;
        }
    }

    fn sleep(&self, mut inbox: MutexGuard<'_, Inbox>, time: Duration) {
        inbox.waiting += 1;
        self.changed.wait_for(&mut inbox, time);
        inbox.waiting -= 1;
    }

    fn read_command<'w>(
        &self,
        reader: &mut Reader,
        message: &mut Message,
        watched: &impl Fn() -> Option<BorrowedFd<'w>>,
        deadline: Option<Instant>,
    ) -> Result<Arrival, ConnectionError> {
        // True if `poll(2)` has found bytes.
        let mut readable = false;
        loop {
            while reader.take(message)? {
                let Some(packet) = message.packet() else { continue };
                if !packet.header().is_reply() {
                    return Ok(Arrival::Command);
                }
                self.deliver(std::mem::take(message))?;
            }
            if self.stopping.load(Ordering::Relaxed) {
                return Err(ConnectionError::Stopped);
            }
            if readable && self.receive(reader, RecvFlags::DONTWAIT)? {
                continue;
            }
            if self.spin(reader)? {
                continue;
            }
            let message_due = reader.message_due(self.limits.stall);
            let until = earlier(deadline, message_due);
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let watched = watched();
            if left.is_none() && watched.is_none() && self.receive(reader, RecvFlags::empty())? {
                continue;
            }
            let others = [Some(self.stop.as_fd()), watched];
            match transport::wait(self.socket(), PollFlags::IN, others, left)? {
                Woken::Socket => readable = true,
                Woken::Other if self.stopping.load(Ordering::Relaxed) => {
                    return Err(ConnectionError::Stopped);
                }
                Woken::Other => return Ok(Arrival::Watched),
                Woken::Timeout if until == deadline => return Ok(Arrival::Timeout),
                Woken::Timeout => return Err(ConnectionError::Stuck),
            }
        }
    }

    /// Receives as [`transport::receive`] does.
    fn receive(&self, reader: &mut Reader, flags: RecvFlags) -> Result<bool, ConnectionError> {
        match transport::receive(self.socket(), &mut reader.decoder, flags) {
            // The server shut down the socket for reading, to stop this thread.
            Err(ConnectionError::Closed) if self.stopping.load(Ordering::Acquire) => {
                Err(ConnectionError::Stopped)
            }
            received => received,
        }
    }

    /// Polls for a while before the thread sleeps. Returns true if bytes were received.
    fn spin(&self, reader: &mut Reader) -> Result<bool, ConnectionError> {
        transport::spin(self.limits.spin, || {
            if self.stopping.load(Ordering::Relaxed) {
                return Err(ConnectionError::Stopped);
            }
            self.receive(reader, RecvFlags::DONTWAIT)
        })
    }

    /// Hands a reply to the thread that waits for it. A reply with an unknown ID is a protocol
    /// error.
    fn deliver(&self, message: Message) -> Result<(), ConnectionError> {
        let id = message.packet().map_or(0, |packet| packet.header().id);
        if !self.inbox.lock().outstanding.deliver(id, message) {
            return Err(ConnectionError::Garbage(Errno::EINVAL));
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Sends a command about a window of memory, and waits for the reply. `put` writes the payload
    /// of the command; `read` decodes the payload of the reply. Returns what `read` returns.
    ///
    /// # Errors
    ///
    /// - the errno of the peer's reply
    /// - `EFAULT` if the window is unmapped, before or during the command
    /// - `ECANCELED` while the link is quiesced
    /// - `EDEADLK` in the session's thread
    /// - `ENOTCONN` if the connection ends
    /// - `ETIMEDOUT` if the reply is late, which ends the connection
    pub(crate) fn call<T>(
        &self,
        command: Command,
        window: &Arc<Window>,
        put: impl FnOnce(&mut Vec<u8>),
        read: impl FnOnce(&[u8]) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if std::thread::current().id() == self.answering {
            return Err(errno::EDEADLK);
        }
        let mut message = Reply::default();
        put(message.begin());
        let sent = self.send_command(&mut message, command, window);
        let message =
            sent.and_then(|id| self.await_reply(id)).map_err(|failure| match failure {
                Failure::Errno(errno) => errno,
                Failure::Broken(why) => {
                    self.end(why);
                    if why == ConnectionError::ReplyTimeout {
                        errno::ETIMEDOUT
                    } else {
                        errno::ENOTCONN
                    }
                }
            })?;
        let packet = message.packet().ok_or(errno::EIO)?;
        match packet.header().errno() {
            Some(errno) => Err(errno),
            None if packet.header().command != command.raw() => Err(errno::EIO),
            None => read(packet.payload()),
        }
    }

    /// Sends a command. Returns its message ID.
    ///
    /// `outbox` is locked before the command is recorded. So a command that is recorded before its
    /// window is unmapped is also sent before the reply to DMA_UNMAP.
    fn send_command(
        &self,
        message: &mut Reply,
        command: Command,
        window: &Arc<Window>,
    ) -> Result<u16, Failure> {
        let alone = self.outbox.lock();
        let id = {
            let mut inbox = self.inbox.lock();
            if inbox.dead.is_some() {
                return Err(Failure::Errno(errno::ENOTCONN));
            }
            inbox.outstanding.begin(window)?
        };
        message.ask(id, command);
        self.send_alone(message, &alone)?;
        Ok(id)
    }

    /// Wakes all threads whose commands are about a window. The caller has unmapped the window.
    pub(crate) fn abandon(&self, window: &Window) {
        let any = self.inbox.lock().outstanding.abandon(window);
        self.wake_abandoned(any);
    }

    /// Wakes all waiting threads, and refuses new commands until [`Link::resume`].
    pub(crate) fn quiesce(&self) {
        let any = self.inbox.lock().outstanding.quiesce();
        self.wake_abandoned(any);
    }

    /// Allows commands again.
    pub(crate) fn resume(&self) {
        self.inbox.lock().outstanding.resume();
    }

    fn wake_abandoned(&self, any: bool) {
        if any {
            transport::wake(&self.abandoned);
            self.changed.notify_all();
        }
    }

    fn await_reply(&self, id: u16) -> Result<Message, Failure> {
        let deadline = transport::after(self.limits.stall);
        loop {
            let mut inbox = self.inbox.lock();
            if let Some(answer) = inbox.outstanding.take(id) {
                return answer.map_err(Failure::Errno);
            }
            if let Some(why) = inbox.dead {
                return Err(why.into());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConnectionError::ReplyTimeout.into());
            }
            let Some(mut reader) = inbox.reader.take() else {
                self.sleep(inbox, left);
                continue;
            };
            drop(inbox);
            let read = self.read_for_others(&mut reader, deadline);
            let mut inbox = self.inbox.lock();
            inbox.reader = Some(reader);
            drop(inbox);
            self.changed.notify_all();
            // The loop continues, because the reply may have arrived before the connection ended.
            read.unwrap_or_else(|why| self.end(why));
        }
    }

    /// Sorts the messages that were received, or receives once and sorts then. Returns early if a
    /// command was abandoned. The first pass is needed: the session's thread may have received
    /// several messages with its current command.
    fn read_for_others(
        &self,
        reader: &mut Reader,
        deadline: Instant,
    ) -> Result<(), ConnectionError> {
        if self.sort(reader)? {
            return Ok(());
        }
        if !self.receive(reader, RecvFlags::DONTWAIT)? {
            let message_due = reader.message_due(self.limits.stall);
            let until = message_due.map_or(deadline, |due| due.min(deadline));
            let left = until.saturating_duration_since(Instant::now());
            let others = [Some(self.stop.as_fd()), Some(self.abandoned.as_fd())];
            match transport::wait(self.socket(), PollFlags::IN, others, Some(left))? {
                Woken::Socket => _ = self.receive(reader, RecvFlags::DONTWAIT)?,
                Woken::Other if self.stopping.load(Ordering::Acquire) => {
                    return Err(ConnectionError::Stopped);
                }
                Woken::Other => transport::consume(&self.abandoned),
                Woken::Timeout if until == deadline => return Err(ConnectionError::ReplyTimeout),
                Woken::Timeout => return Err(ConnectionError::Stuck),
            }
        }
        self.sort(reader).map(drop)
    }

    /// Hands replies to their threads, and queues commands for the session. Returns true if there
    /// was a message.
    fn sort(&self, reader: &mut Reader) -> Result<bool, ConnectionError> {
        let mut message = Message::default();
        let mut any = false;
        while reader.take(&mut message)? {
            any = true;
            let message = std::mem::take(&mut message);
            if message.packet().is_some_and(|packet| packet.header().is_reply()) {
                self.deliver(message)?;
                continue;
            }
            let mut inbox = self.inbox.lock();
            if !Self::may_keep(&inbox.commands, &message) {
                return Err(ConnectionError::Garbage(Errno::ENOMEM));
            }
            inbox.commands.push_back(message);
        }
        Ok(any)
    }

    /// Returns true if the queue has room for one more command.
    fn may_keep(kept: &VecDeque<Message>, more: &Message) -> bool {
        let all = || kept.iter().chain([more]);
        all().count() <= Self::KEPT
            && all().map(|message| message.bytes.len()).sum::<usize>() <= Self::KEPT_BYTES
            && all().map(|message| message.fds.len()).sum::<usize>() <= Self::KEPT_FDS
    }

    /// Returns the header of the message that caused [`ConnectionError::Garbage`].
    pub(crate) fn offender(&self) -> Option<Header> {
        self.inbox.lock().reader.as_ref().and_then(|reader| reader.decoder.offender())
    }
}

/// Returns the earlier of two optional times.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
