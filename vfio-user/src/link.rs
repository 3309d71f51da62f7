//! One socket that two directions of commands share.
//!
//! The session's thread takes the client's commands. Any thread of the device's may meanwhile ask the
//! client for memory, and its reply comes over the same socket: whoever waits and finds nobody
//! reading, reads, and leaves to others what is theirs.

use crate::errno;
use crate::transport::{self, Broken, Received, Woken};
use crate::wire::{Command, Decoder, Header, MAX_FDS, Packet, Reply};
use rustix::event::PollFlags;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vfio_irq_engine::Errno;

/// A whole message with its descriptors, in memory that is used again.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// Descriptors came with it that this process had no room for.
    pub(crate) robbed: bool,
}

impl Message {
    /// The message as a packet; it is whole.
    pub(crate) fn packet(&self) -> Option<Packet<'_>> {
        Packet::split(&self.bytes).ok().flatten()
    }
}

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
    /// Away while somebody reads.
    decoder: Option<Decoder>,
    commands: VecDeque<Message>,
    /// Commands of ours that await replies.
    awaited: Vec<(u16, Option<Message>)>,
    dead: Option<Broken>,
    waiting: usize,
}

/// The message that has begun, by its place in the stream, and when it has to be there.
#[derive(Default)]
struct Begun(Option<(u64, Instant)>);

impl Begun {
    /// When the message at this place has to be there: `until`, if it has just begun.
    fn until(&mut self, place: u64, until: Instant) -> Instant {
        match self.0 {
            Some((of, until)) if of == place => until,
            _ => self.0.insert((place, until)).1,
        }
    }
}

/// One socket.
pub(crate) struct Link {
    socket: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
    stopping: Arc<AtomicBool>,
    patience: Patience,
    inbox: Mutex<Inbox>,
    changed: Condvar,
    outbox: Mutex<()>,
    ids: AtomicU16,
}

impl Link {
    /// Commands that are kept for the session while a thread of the device's reads.
    const KEPT: usize = 256;
    /// Bytes and descriptors of theirs.
    const KEPT_BYTES: usize = 8 << 20;
    const KEPT_FDS: usize = 4 * MAX_FDS;

    /// Whoever sets the second of `stop` then makes the first readable, and shuts the socket for
    /// reading: the session's thread may be asleep in either.
    pub(crate) fn new(
        socket: Arc<OwnedFd>,
        stop: (Arc<OwnedFd>, Arc<AtomicBool>),
        patience: Patience,
        longest: usize,
    ) -> Self {
        let inbox = Inbox {
            decoder: Some(Decoder::new(longest)),
            commands: VecDeque::new(),
            awaited: Vec::new(),
            dead: None,
            waiting: 0,
        };
        Self {
            socket,
            stop: stop.0,
            stopping: stop.1,
            patience,
            inbox: Mutex::new(inbox),
            changed: Condvar::new(),
            outbox: Mutex::new(()),
            ids: AtomicU16::new(0),
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is over: whoever waits for anything is told.
    pub(crate) fn kill(&self, why: Broken) {
        self.lock().dead.get_or_insert(why);
        // It may be closed already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        self.changed.notify_all();
    }

    /// Sends a message.
    pub(crate) fn send(&self, reply: &Reply) -> Result<(), Broken> {
        let _alone = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = Some(self.stop.as_fd());
        transport::send(self.socket(), reply.bytes(), reply.fds(), self.patience.stall, stop)
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
            let Some(mut decoder) = inbox.decoder.take() else {
                self.sleep(inbox, Duration::from_millis(10));
                continue;
            };
            drop(inbox);
            let arrival = self.read_command(&mut decoder, message, &watched, deadline);
            let mut inbox = self.lock();
            inbox.decoder = Some(decoder);
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
        decoder: &mut Decoder,
        message: &mut Message,
        watched: &impl Fn() -> Option<BorrowedFd<'w>>,
        deadline: Option<Instant>,
    ) -> Result<Arrival, Broken> {
        // Who never looks before sleeping saves the look.
        let mut awake = !self.patience.spin.is_zero();
        let mut begun = Begun::default();
        loop {
            while take(decoder, message)? {
                let Some(packet) = message.packet() else { continue };
                if !packet.header().is_reply() {
                    return Ok(Arrival::Command);
                }
                self.deliver(std::mem::take(message))?;
            }
            if self.stopping.load(Ordering::Relaxed) {
                return Err(Broken::Stopped);
            }
            if awake && transport::receive(self.socket(), decoder)? == Received::Bytes {
                continue;
            }
            if self.spin(decoder)? {
                continue;
            }
            // A message has so much time from its first byte on, however its bytes trickle in.
            let until = if decoder.is_amid() {
                Some(begun.until(decoder.place(), transport::after(self.patience.stall)))
            } else {
                deadline
            };
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let watched = watched();
            if left.is_none() && watched.is_none() && self.sleep_and_receive(decoder)? {
                continue;
            }
            let others = std::iter::once(self.stop.as_fd()).chain(watched);
            match transport::wait(self.socket(), PollFlags::IN, others, left)? {
                Woken::Socket => awake = true,
                Woken::Other if self.stopping.load(Ordering::Relaxed) => {
                    return Err(Broken::Stopped);
                }
                Woken::Other => return Ok(Arrival::Watched),
                Woken::Nobody if decoder.is_amid() => return Err(Broken::Stuck),
                Woken::Nobody => return Ok(Arrival::Nothing),
            }
        }
    }

    /// Sleeps until there is something to read, and reads it. `false` when something else ended it.
    fn sleep_and_receive(&self, decoder: &mut Decoder) -> Result<bool, Broken> {
        match transport::sleep_and_receive(self.socket(), decoder) {
            // Its end for reading was shut by whoever stops the server.
            Err(Broken::Closed) if self.stopping.load(Ordering::Acquire) => Err(Broken::Stopped),
            received => Ok(received? == Received::Bytes),
        }
    }

    /// Looks for a while before sleeping: a peer that is busy needs no wake-up then.
    fn spin(&self, decoder: &mut Decoder) -> Result<bool, Broken> {
        if self.patience.spin.is_zero() {
            return Ok(false);
        }
        let until = transport::after(self.patience.spin);
        while !self.stopping.load(Ordering::Relaxed) && Instant::now() < until {
            if transport::receive(self.socket(), decoder)? == Received::Bytes {
                return Ok(true);
            }
            // The peer may be what this processor would run next.
            std::thread::yield_now();
        }
        Ok(false)
    }

    /// Hands a reply to who awaits it. One that nobody awaits is no part of the protocol.
    fn deliver(&self, message: Message) -> Result<(), Broken> {
        let id = message.packet().map(|packet| packet.header().id);
        let mut inbox = self.lock();
        let awaited =
            inbox.awaited.iter_mut().find(|(of, there)| Some(*of) == id && there.is_none());
        let (_, place) = awaited.ok_or(Broken::Garbage(Errno::EINVAL))?;
        *place = Some(message);
        self.changed.notify_all();
        Ok(())
    }

    /// Asks the peer for something, and waits for its reply. What `put` writes is the payload; what
    /// `read` gets is that of the reply.
    ///
    /// # Errors
    ///
    /// What the peer answers; `ENOTCONN` when the connection ends; `ETIMEDOUT` when it takes too long,
    /// which ends the connection.
    pub(crate) fn call<T>(
        &self,
        command: Command,
        put: impl FnOnce(&mut Vec<u8>),
        read: impl FnOnce(&[u8]) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        {
            let mut inbox = self.lock();
            if inbox.dead.is_some() || inbox.awaited.iter().any(|(of, _)| *of == id) {
                return Err(errno::ENOTCONN);
            }
            inbox.awaited.push((id, None));
        }
        let mut question = Reply::default();
        put(question.begin());
        question.ask(id, command);
        let message = self.send(&question).and_then(|()| self.await_reply(id));
        self.lock().awaited.retain(|(of, _)| *of != id);
        let message = message.map_err(|why| {
            self.kill(why);
            if why == Broken::Silent { errno::ETIMEDOUT } else { errno::ENOTCONN }
        })?;
        let packet = message.packet().ok_or(errno::EIO)?;
        match packet.header().errno() {
            Some(errno) => Err(errno),
            None if packet.header().command != command.raw() => Err(errno::EIO),
            None => read(packet.payload()),
        }
    }

    fn await_reply(&self, id: u16) -> Result<Message, Broken> {
        let deadline = transport::after(self.patience.stall);
        loop {
            let mut inbox = self.lock();
            let place = inbox.awaited.iter_mut().find(|(of, _)| *of == id);
            if let Some(message) = place.and_then(|(_, place)| place.take()) {
                return Ok(message);
            }
            if let Some(why) = inbox.dead {
                return Err(why);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Broken::Silent);
            }
            let Some(mut decoder) = inbox.decoder.take() else {
                self.sleep(inbox, left);
                continue;
            };
            drop(inbox);
            let read = self.read_for_others(&mut decoder, left);
            let mut inbox = self.lock();
            inbox.decoder = Some(decoder);
            drop(inbox);
            self.changed.notify_all();
            read?;
        }
    }

    /// Leaves each message where it belongs: those that the session's thread has read with the one that
    /// it is busy with, or else what comes next.
    fn read_for_others(&self, decoder: &mut Decoder, left: Duration) -> Result<(), Broken> {
        if self.sort(decoder)? {
            return Ok(());
        }
        if transport::receive(self.socket(), decoder)? == Received::Nothing {
            let stop = std::iter::once(self.stop.as_fd());
            match transport::wait(self.socket(), PollFlags::IN, stop, Some(left))? {
                Woken::Socket => transport::receive(self.socket(), decoder)?,
                Woken::Other => return Err(Broken::Stopped),
                Woken::Nobody => return Err(Broken::Silent),
            };
        }
        self.sort(decoder).map(drop)
    }

    /// Leaves each message of the decoder's where it belongs; whether there was one.
    fn sort(&self, decoder: &mut Decoder) -> Result<bool, Broken> {
        let mut message = Message::default();
        let mut any = false;
        while take(decoder, &mut message)? {
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
        self.lock().decoder.as_ref().and_then(Decoder::offender)
    }
}

/// Takes the next message out of the decoder; whether there was one.
fn take(decoder: &mut Decoder, message: &mut Message) -> Result<bool, Broken> {
    let Some(size) = decoder.next(&mut message.fds).map_err(Broken::Garbage)?.map(|frame| {
        message.robbed = frame.robbed;
        message.bytes.clear();
        message.bytes.extend_from_slice(&frame.packet.header().to_bytes());
        message.bytes.extend_from_slice(frame.packet.payload());
        frame.packet.len()
    }) else {
        return Ok(false);
    };
    debug_assert_eq!(size, message.bytes.len());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::Begun;
    use std::time::{Duration, Instant};

    /// Replies for threads of the device's may follow each other without an end.
    #[test]
    fn each_message_has_its_own_time() {
        let (mut begun, now) = (Begun::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(begun.until(100, at(10)), at(10));
        assert_eq!(begun.until(100, at(11)), at(10), "however its bytes trickle in");
        assert_eq!(begun.until(120, at(15)), at(15));
    }
}
