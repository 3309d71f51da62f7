//! One socket that two directions of commands share.
//!
//! The session's thread takes the client's commands. Any thread of the device's may meanwhile ask the
//! client for memory, and its reply comes over the same socket: a thread that waits while no thread
//! reads becomes the reader, and leaves to others what is theirs.
//!
//! The session's thread itself never asks. A client need not answer a command before its own command is
//! answered (QEMU does not), so a server that waits within a command waits for itself.

mod questions;
mod reader;

use crate::errno;
use crate::transport::{self, Broken, Received, Woken};
use crate::wire::{Command, Header, MAX_FDS, Reply};
pub(crate) use questions::Window;
use questions::{Questions, Unasked};
pub(crate) use reader::Message;
use reader::Reader;
use rustix::event::PollFlags;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};
use vfio_irq_engine::Errno;

/// How patient a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long to look for the next message before sleeping.
    pub(crate) spin: Duration,
    /// How long a message may take once it has begun, and a reply that the peer owes.
    pub(crate) stall: Duration,
}

/// What the session's thread finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// A command.
    Command,
    /// An eventfd that it watches.
    Watched,
    /// Nothing, and the time is over.
    Nothing,
}

struct Inbox {
    /// Away while a thread reads.
    reader: Option<Reader>,
    commands: VecDeque<Message>,
    questions: Questions,
    dead: Option<Broken>,
    waiting: usize,
}

/// Why a command of the server's has failed.
enum Failure {
    /// The connection goes on.
    Errno(Errno),
    /// It does not.
    Broken(Broken),
}

impl From<Broken> for Failure {
    fn from(why: Broken) -> Self {
        Self::Broken(why)
    }
}

/// One socket.
pub(crate) struct Link {
    socket: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
    stopping: Arc<AtomicBool>,
    /// Wakes the thread that reads for others: a command was abandoned, its own perhaps.
    abandoned: OwnedFd,
    /// The thread that answers the client.
    answering: ThreadId,
    patience: Patience,
    inbox: Mutex<Inbox>,
    changed: Condvar,
    outbox: Mutex<()>,
}

impl Link {
    /// Commands that are kept for the session while a thread of the device's reads.
    const KEPT: usize = 256;
    /// Bytes and descriptors of theirs.
    const KEPT_BYTES: usize = 8 << 20;
    const KEPT_FDS: usize = 4 * MAX_FDS;

    /// A link whose commands the calling thread answers. To stop it, set the second of `stop`, then
    /// make the first readable, and shut the socket for reading: this thread may be asleep in either.
    ///
    /// # Errors
    ///
    /// When this process can have no more descriptors.
    pub(crate) fn new(
        socket: Arc<OwnedFd>,
        stop: (Arc<OwnedFd>, Arc<AtomicBool>),
        patience: Patience,
        longest: usize,
    ) -> rustix::io::Result<Self> {
        let inbox = Inbox {
            reader: Some(Reader::new(longest)),
            commands: VecDeque::new(),
            questions: Questions::default(),
            dead: None,
            waiting: 0,
        };
        Ok(Self {
            socket,
            stop: stop.0,
            stopping: stop.1,
            abandoned: transport::waker()?,
            answering: std::thread::current().id(),
            patience,
            inbox: Mutex::new(inbox),
            changed: Condvar::new(),
            outbox: Mutex::new(()),
        })
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is over: all threads that wait for something are told.
    pub(crate) fn kill(&self, why: Broken) {
        self.lock().dead.get_or_insert(why);
        // It may be closed already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        self.changed.notify_all();
    }

    /// Sends a message.
    pub(crate) fn send(&self, reply: &Reply) -> Result<(), Broken> {
        self.send_alone(reply, &self.alone())
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_alone(&self, reply: &Reply, _alone: &MutexGuard<'_, ()>) -> Result<(), Broken> {
        let stop = Some(self.stop.as_fd());
        transport::send(self.socket(), reply.bytes(), reply.fds(), self.patience.stall, stop)
            .map(drop)
    }

    /// The next command of the client's. `watched` is an eventfd that ends the wait, too.
    pub(crate) fn next_command<'w>(
        &self,
        message: &mut Message,
        watched: impl Fn() -> Option<BorrowedFd<'w>>,
        deadline: Option<Instant>,
    ) -> Result<Arrival, Broken> {
        loop {
            let mut inbox = self.lock();
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
            let mut inbox = self.lock();
            inbox.reader = Some(reader);
            if inbox.waiting > 0 {
                self.changed.notify_all();
            }
            return arrival;
        }
    }

    fn sleep(&self, mut inbox: MutexGuard<'_, Inbox>, time: Duration) {
        inbox.waiting += 1;
        let slept = self.changed.wait_timeout(inbox, time);
        slept.unwrap_or_else(PoisonError::into_inner).0.waiting -= 1;
    }

    fn read_command<'w>(
        &self,
        reader: &mut Reader,
        message: &mut Message,
        watched: &impl Fn() -> Option<BorrowedFd<'w>>,
        deadline: Option<Instant>,
    ) -> Result<Arrival, Broken> {
        // Without looking before sleeping, the first look is saved as well.
        let mut awake = !self.patience.spin.is_zero();
        loop {
            while reader.take(message)? {
                let Some(packet) = message.packet() else { continue };
                if !packet.header().is_reply() {
                    return Ok(Arrival::Command);
                }
                self.deliver(std::mem::take(message))?;
            }
            if self.stopping.load(Ordering::Relaxed) {
                return Err(Broken::Stopped);
            }
            if awake && transport::receive(self.socket(), &mut reader.decoder)? == Received::Bytes {
                continue;
            }
            if self.spin(reader)? {
                continue;
            }
            let message_due = reader.message_due(self.patience.stall);
            let until = earlier(deadline, message_due);
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let watched = watched();
            if left.is_none() && watched.is_none() && self.sleep_and_receive(reader)? {
                continue;
            }
            let others = std::iter::once(self.stop.as_fd()).chain(watched);
            match transport::wait(self.socket(), PollFlags::IN, others, left)? {
                Woken::Socket => awake = true,
                Woken::Other if self.stopping.load(Ordering::Relaxed) => {
                    return Err(Broken::Stopped);
                }
                Woken::Other => return Ok(Arrival::Watched),
                Woken::Nobody if until == deadline => return Ok(Arrival::Nothing),
                Woken::Nobody => return Err(Broken::Stuck),
            }
        }
    }

    /// Sleeps until there is something to read, and reads it. `false` when something else ended it.
    fn sleep_and_receive(&self, reader: &mut Reader) -> Result<bool, Broken> {
        match transport::sleep_and_receive(self.socket(), &mut reader.decoder) {
            // Its end for reading was shut, to stop the server.
            Err(Broken::Closed) if self.stopping.load(Ordering::Acquire) => Err(Broken::Stopped),
            received => Ok(received? == Received::Bytes),
        }
    }

    /// Looks for a while before sleeping: a peer that is busy needs no wake-up then.
    fn spin(&self, reader: &mut Reader) -> Result<bool, Broken> {
        if self.patience.spin.is_zero() {
            return Ok(false);
        }
        let until = transport::after(self.patience.spin);
        while !self.stopping.load(Ordering::Relaxed) && Instant::now() < until {
            if transport::receive(self.socket(), &mut reader.decoder)? == Received::Bytes {
                return Ok(true);
            }
            // The peer may be what this processor would run next.
            std::thread::yield_now();
        }
        Ok(false)
    }

    /// Hands a reply to the thread that awaits it. A reply to no command is no part of the protocol.
    fn deliver(&self, message: Message) -> Result<(), Broken> {
        let id = message.packet().map_or(0, |packet| packet.header().id);
        if !self.lock().questions.deliver(id, message) {
            return Err(Broken::Garbage(Errno::EINVAL));
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Asks the peer about a window of memory, and waits for its reply. What `put` writes is the
    /// payload; what `read` gets is that of the reply.
    ///
    /// # Errors
    ///
    /// What the peer answers; `EFAULT` when the window is unmapped, before or meanwhile; `ECANCELED`
    /// while the link is quiesced; `EDEADLK` in the thread that answers the peer; `ENOTCONN` when the
    /// connection ends; `ETIMEDOUT` when the reply takes too long, which ends the connection.
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
        let mut question = Reply::default();
        put(question.begin());
        let asked = self.ask(&mut question, command, window);
        let message =
            asked.and_then(|id| self.await_reply(id)).map_err(|failure| match failure {
                Failure::Errno(errno) => errno,
                Failure::Broken(why) => {
                    self.kill(why);
                    if why == Broken::Silent { errno::ETIMEDOUT } else { errno::ENOTCONN }
                }
            })?;
        let packet = message.packet().ok_or(errno::EIO)?;
        match packet.header().errno() {
            Some(errno) => Err(errno),
            None if packet.header().command != command.raw() => Err(errno::EIO),
            None => read(packet.payload()),
        }
    }

    /// Sends a command. Returns its ID.
    ///
    /// The lock for sending is taken before the command is noted: a command that is noted before its
    /// window is unmapped is sent before the reply to DMA_UNMAP.
    fn ask(
        &self,
        question: &mut Reply,
        command: Command,
        window: &Arc<Window>,
    ) -> Result<u16, Failure> {
        let alone = self.alone();
        let id = {
            let mut inbox = self.lock();
            if inbox.dead.is_some() {
                return Err(Failure::Errno(errno::ENOTCONN));
            }
            inbox.questions.ask(window).map_err(|why| match why {
                Unasked::Refused(errno) => Failure::Errno(errno),
                Unasked::TooMany => Failure::Broken(Broken::Silent),
            })?
        };
        question.ask(id, command);
        self.send_alone(question, &alone)?;
        Ok(id)
    }

    /// Ends the wait of all threads that have asked about a window, which was unmapped before.
    pub(crate) fn abandon(&self, window: &Window) {
        let any = self.lock().questions.abandon(window);
        self.tell_abandoned(any);
    }

    /// Ends the wait of all threads, and lets none ask until [`Link::resume`].
    pub(crate) fn quiesce(&self) {
        let any = self.lock().questions.quiesce();
        self.tell_abandoned(any);
    }

    /// Lets threads ask again.
    pub(crate) fn resume(&self) {
        self.lock().questions.resume();
    }

    fn tell_abandoned(&self, any: bool) {
        if any {
            transport::wake(&self.abandoned);
            self.changed.notify_all();
        }
    }

    fn await_reply(&self, id: u16) -> Result<Message, Failure> {
        let deadline = transport::after(self.patience.stall);
        loop {
            let mut inbox = self.lock();
            if let Some(answer) = inbox.questions.take(id) {
                return answer.map_err(Failure::Errno);
            }
            if let Some(why) = inbox.dead {
                return Err(why.into());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Broken::Silent.into());
            }
            let Some(mut reader) = inbox.reader.take() else {
                self.sleep(inbox, left);
                continue;
            };
            drop(inbox);
            let read = self.read_for_others(&mut reader, deadline);
            let mut inbox = self.lock();
            inbox.reader = Some(reader);
            drop(inbox);
            self.changed.notify_all();
            // The answer may have come before what ends the connection.
            read.unwrap_or_else(|why| self.kill(why));
        }
    }

    /// Leaves each message where it belongs: those that the session's thread has read with the one that
    /// it is busy with, or else what comes next. Returns early if a command was abandoned.
    fn read_for_others(&self, reader: &mut Reader, deadline: Instant) -> Result<(), Broken> {
        if self.sort(reader)? {
            return Ok(());
        }
        if transport::receive(self.socket(), &mut reader.decoder)? == Received::Nothing {
            let message_due = reader.message_due(self.patience.stall);
            let until = message_due.map_or(deadline, |due| due.min(deadline));
            let left = until.saturating_duration_since(Instant::now());
            let others = [self.stop.as_fd(), self.abandoned.as_fd()].into_iter();
            match transport::wait(self.socket(), PollFlags::IN, others, Some(left))? {
                Woken::Socket => _ = transport::receive(self.socket(), &mut reader.decoder)?,
                Woken::Other if self.stopping.load(Ordering::Acquire) => {
                    return Err(Broken::Stopped);
                }
                Woken::Other => transport::calm(&self.abandoned),
                Woken::Nobody if until == deadline => return Err(Broken::Silent),
                Woken::Nobody => return Err(Broken::Stuck),
            }
        }
        self.sort(reader).map(drop)
    }

    /// Leaves each message that was read where it belongs; whether there was one.
    fn sort(&self, reader: &mut Reader) -> Result<bool, Broken> {
        let mut message = Message::default();
        let mut any = false;
        while reader.take(&mut message)? {
            any = true;
            let message = std::mem::take(&mut message);
            if message.packet().is_some_and(|packet| packet.header().is_reply()) {
                self.deliver(message)?;
                continue;
            }
            let mut inbox = self.lock();
            if !Self::may_keep(&inbox.commands, &message) {
                return Err(Broken::Garbage(Errno::ENOMEM));
            }
            inbox.commands.push_back(message);
        }
        Ok(any)
    }

    /// Whether one more command is not too much.
    fn may_keep(kept: &VecDeque<Message>, more: &Message) -> bool {
        let all = || kept.iter().chain([more]);
        all().count() <= Self::KEPT
            && all().map(|message| message.bytes.len()).sum::<usize>() <= Self::KEPT_BYTES
            && all().map(|message| message.fds.len()).sum::<usize>() <= Self::KEPT_FDS
    }

    /// The header of what made [`Broken::Garbage`] of the stream.
    pub(crate) fn offender(&self) -> Option<Header> {
        self.lock().reader.as_ref().and_then(|reader| reader.decoder.offender())
    }
}

/// The earlier of two times, where there are any.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
