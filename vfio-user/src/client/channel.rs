//! Commands and their replies, one at a time, and what the server asks meanwhile.

use super::{ClientError, ClientOptions, DmaHandler};
use crate::errno;
use crate::transport::{self, ConnectionError, Received, Woken};
use crate::wire::{Command, Decoder, Header, Packet, Reply, flags};
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, sockopt};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use vfio_irq_engine::Errno;

pub(super) struct Channel {
    socket: OwnedFd,
    /// A read of the socket ends by itself when patience does, so that one may sleep in it.
    timed: bool,
    decoder: Decoder,
    /// The reply that is awaited may bring descriptors. No other message of a server's does.
    with_fds: bool,
    options: ClientOptions,
    next_id: u16,
    message: Reply,
    fds: Vec<OwnedFd>,
    handler: Option<Box<dyn DmaHandler>>,
    /// Why the connection is over.
    dead: Option<ConnectionError>,
    /// Where the mappings are that [`Client::dma_map`](super::Client::dma_map) has made.
    pub(super) mappings: BTreeSet<u64>,
}

/// Bytes of data that this side takes in one message.
pub(super) const TRANSFER: u32 = crate::wire::DEFAULT_TRANSFER;

/// The longest message that a server sends: its data, and some.
const LONGEST: usize = TRANSFER as usize + (64 << 10);

impl Channel {
    pub(super) fn new(socket: OwnedFd, options: ClientOptions) -> Self {
        let timeout = Some(options.patience);
        let timed = sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, timeout).is_ok();
        Self {
            socket,
            timed,
            decoder: Decoder::new(LONGEST),
            with_fds: false,
            options,
            next_id: 0,
            message: Reply::default(),
            fds: Vec::new(),
            handler: None,
            dead: None,
            mappings: BTreeSet::new(),
        }
    }

    pub(super) fn set_handler(&mut self, handler: Box<dyn DmaHandler>) {
        self.handler = Some(handler);
    }

    /// Ends the connection. What comes later on it cannot be told apart.
    fn end(&mut self, why: ConnectionError) -> ConnectionError {
        // It may be closed already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        *self.dead.get_or_insert(why)
    }

    /// Does something with the connection, unless that is over. Whatever breaks it ends it.
    fn alive<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        if let Some(why) = self.dead {
            return Err(why.into());
        }
        let outcome = act(self);
        if let Err(ClientError::Broken(why)) = outcome {
            self.end(why);
        }
        outcome
    }

    /// Sends the message. Returns whether it had to wait for the server to read.
    fn send(&mut self, fds: &[BorrowedFd<'_>], deadline: Instant) -> Result<bool, ConnectionError> {
        let (socket, fds) = (self.socket.as_fd(), fds.iter().copied());
        let left = deadline.saturating_duration_since(Instant::now());
        transport::send(socket, self.message.bytes(), fds, left, None)
    }

    /// Sends a command that nobody replies to.
    pub(super) fn post(
        &mut self,
        command: Command,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ClientError> {
        self.alive(|channel| {
            channel.next_id = channel.next_id.wrapping_add(1);
            put(channel.message.begin());
            channel.message.ask_with(channel.next_id, command, flags::NO_REPLY);
            channel.send(&[], transport::after(channel.options.patience))?;
            Ok(())
        })
    }

    /// Sends a command and reads its reply.
    pub(super) fn call<T>(
        &mut self,
        command: Command,
        put: impl FnOnce(&mut Vec<u8>),
        fds: &[BorrowedFd<'_>],
        read: impl FnOnce(&[u8], &mut Vec<OwnedFd>) -> Result<T, Errno>,
    ) -> Result<T, ClientError> {
        self.alive(|channel| {
            channel.next_id = channel.next_id.wrapping_add(1);
            put(channel.message.begin());
            channel.message.ask(channel.next_id, command);
            channel.with_fds =
                matches!(command, Command::DeviceGetRegionInfo | Command::DeviceGetRegionIoFds);
            let deadline = transport::after(channel.options.patience);
            let waited = channel.send(fds, deadline)?;
            channel.await_reply(command, deadline, channel.timed && !waited, read)
        })
    }

    /// Serves the server until the reply is there to the command that was sent last. Until `deadline`,
    /// whatever the server asks meanwhile. `timed` says that the socket's own time is what is left.
    fn await_reply<T>(
        &mut self,
        command: Command,
        deadline: Instant,
        mut timed: bool,
        read: impl FnOnce(&[u8], &mut Vec<OwnedFd>) -> Result<T, Errno>,
    ) -> Result<T, ClientError> {
        let id = self.next_id;
        let mut read = Some(read);
        loop {
            let taken = self.take(deadline, |packet, fds| {
                let header = packet.header();
                if !header.is_reply() {
                    return None;
                }
                if header.id != id || header.command != command.raw() {
                    return Some(Err(ConnectionError::ProtocolViolation.into()));
                }
                if let Some(errno) = header.errno() {
                    return Some(Err(ClientError::Refused { command, errno }));
                }
                let outcome = read.take().map(|read| read(packet.payload(), fds));
                Some(outcome.and_then(Result::ok).ok_or(ClientError::Senseless(command)))
            })?;
            match taken {
                Taken::Done(outcome) => return outcome,
                Taken::Nothing if timed => {
                    // Later reads have less time than the socket would give them.
                    timed = false;
                    if !self.read(deadline, true)? {
                        return Err(ConnectionError::ReplyTimeout.into());
                    }
                }
                Taken::Nothing if !is_over(deadline) && self.read(deadline, false)? => {}
                Taken::Served if !is_over(deadline) => {}
                Taken::Served | Taken::Nothing => return Err(ConnectionError::ReplyTimeout.into()),
            }
        }
    }

    /// Serves commands of the server's.
    pub(super) fn serve(&mut self, time: Duration) -> Result<bool, ClientError> {
        self.alive(|channel| {
            let deadline = transport::after(time);
            // A reply takes as long as the server's patience has it, however short `time` is.
            let patience = transport::after(time.max(channel.options.patience));
            let mut looked = false;
            loop {
                match channel
                    .take(patience, |packet, _| packet.header().is_reply().then_some(()))?
                {
                    Taken::Done(()) => return Err(ConnectionError::ProtocolViolation.into()),
                    Taken::Served => return Ok(true),
                    Taken::Nothing if looked && is_over(deadline) => return Ok(false),
                    Taken::Nothing if !channel.read(deadline, false)? => return Ok(false),
                    Taken::Nothing => looked = true,
                }
            }
        })
    }

    /// Takes the next message: `done` may have it, else it is served.
    fn take<T>(
        &mut self,
        deadline: Instant,
        done: impl FnOnce(Packet<'_>, &mut Vec<OwnedFd>) -> Option<T>,
    ) -> Result<Taken<T>, ConnectionError> {
        let Some(frame) = self.decoder.next(&mut self.fds).map_err(ConnectionError::Garbage)?
        else {
            return Ok(Taken::Nothing);
        };
        if let Some(outcome) = done(frame.packet, &mut self.fds) {
            self.fds.clear();
            return Ok(Taken::Done(outcome));
        }
        let header = frame.packet.header();
        let mut handler = self.handler.as_deref_mut();
        match serve(frame.packet, &mut handler, self.message.begin()) {
            Ok(()) => self.message.answer(&header),
            Err(errno) => self.message.refuse(&header, errno),
        }
        if header.wants_reply() {
            self.send(&[], deadline)?;
        }
        Ok(Taken::Served)
    }

    /// Waits for more bytes; `false` when the time is over. `timed` says that the socket's own time
    /// is what is left.
    fn read(&mut self, deadline: Instant, timed: bool) -> Result<bool, ConnectionError> {
        if !self.options.spin.is_zero() && self.look()? {
            return Ok(true);
        }
        if timed && self.receive(RecvFlags::empty())? == Received::Bytes {
            return Ok(true);
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let others = std::iter::empty();
            let socket = self.socket.as_fd();
            if transport::wait(socket, PollFlags::IN, others, Some(left))? == Woken::Nobody {
                return Ok(false);
            }
            if self.receive(RecvFlags::DONTWAIT)? == Received::Bytes {
                return Ok(true);
            }
        }
    }

    /// With the socket's own time as its limit, or without waiting.
    fn receive(&mut self, flags: RecvFlags) -> Result<Received, ConnectionError> {
        let (socket, decoder) = (self.socket.as_fd(), &mut self.decoder);
        match self.with_fds {
            false => transport::receive_bytes(socket, decoder, flags),
            true if flags.is_empty() => transport::sleep_and_receive(socket, decoder),
            true => transport::receive(socket, decoder),
        }
    }

    /// Looks for more bytes for a while before sleeping.
    fn look(&mut self) -> Result<bool, ConnectionError> {
        let until = transport::after(self.options.spin);
        loop {
            if self.receive(RecvFlags::DONTWAIT)? == Received::Bytes {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            // The server may be what this processor would run next.
            std::thread::yield_now();
        }
    }
}

fn is_over(deadline: Instant) -> bool {
    Instant::now() >= deadline
}

enum Taken<T> {
    Done(T),
    Served,
    Nothing,
}

/// Serves an access of the device's to the client's memory.
fn serve(
    packet: Packet<'_>,
    handler: &mut Option<&mut (dyn DmaHandler + 'static)>,
    out: &mut Vec<u8>,
) -> Result<(), Errno> {
    let handler = handler.as_deref_mut().ok_or(errno::EOPNOTSUPP)?;
    let (head, data) = packet.payload().split_first_chunk::<16>().ok_or(Errno::EINVAL)?;
    let (address, count) = (super::info::long(head, 0), super::info::long(head, 8));
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    out.extend_from_slice(head);
    match Command::from_raw(packet.header().command) {
        Some(Command::DmaRead) if data.is_empty() && count <= LONGEST - Header::LEN - 16 => {
            let from = out.len();
            out.resize(from + count, 0);
            handler.read(address, out.get_mut(from..).unwrap_or_default())
        }
        Some(Command::DmaWrite) if data.len() == count => handler.write(address, data),
        Some(Command::DmaRead | Command::DmaWrite) => Err(Errno::EINVAL),
        _ => Err(errno::EOPNOTSUPP),
    }
}
