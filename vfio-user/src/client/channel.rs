//! One command and its reply at a time, and the server's commands in between.

use super::error::ClientError;
use crate::errno;
use crate::transport::{self, ConnectionError, Woken};
use crate::wire::layout::{DmaRange, put, take};
use crate::wire::{Command, Decoder, Header, Packet, Reply, flags};
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, sockopt};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use vfio_irq_engine::Errno;

/// The time limits of a client.
///
/// ```
/// use std::time::Duration;
/// use vfio_irq_user::ClientOptions;
///
/// // A processor to spare, and a server that may have to spin disks up.
/// let options =
///     ClientOptions { spin: Duration::from_micros(200), patience: Duration::from_secs(60) };
/// assert!(options.spin > ClientOptions::default().spin);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientOptions {
    /// How long a call polls for a reply before it sleeps.
    pub spin: Duration,
    /// How long the server may take to reply.
    pub patience: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { spin: Duration::from_micros(20), patience: Duration::from_secs(10) }
    }
}

/// Serves the device's accesses to memory that was mapped without a descriptor.
pub trait DmaHandler: Send {
    /// Serves a DMA_READ of the device.
    ///
    /// # Errors
    ///
    /// The server receives the errno.
    fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// Serves a DMA_WRITE of the device.
    ///
    /// # Errors
    ///
    /// The server receives the errno.
    fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno>;
}

/// The connection to a server.
pub(super) struct Channel {
    socket: OwnedFd,
    /// The receive timeout of the socket equals `patience`, so a call can sleep in `recvmsg(2)`.
    timed: bool,
    decoder: Decoder,
    /// Only the expected reply may carry descriptors.
    with_fds: bool,
    options: ClientOptions,
    next_id: u16,
    message: Reply,
    fds: Vec<OwnedFd>,
    handler: Option<Box<dyn DmaHandler>>,
    /// The reason why the connection ended.
    dead: Option<ConnectionError>,
    /// The addresses of the mappings of [`Client::dma_map`](super::Client::dma_map).
    pub(super) mappings: BTreeSet<u64>,
}

/// The limit of data bytes per message that this client accepts.
pub(super) const TRANSFER: u32 = crate::wire::DEFAULT_TRANSFER;

/// The limit of a server's message: data and headers.
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

    /// Ends the connection, because the position in the stream is lost.
    fn end(&mut self, why: ConnectionError) -> ConnectionError {
        // ENOTCONN is harmless.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        *self.dead.get_or_insert(why)
    }

    /// Calls `act` with the connection, unless the connection has ended. A connection error ends
    /// the connection.
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

    /// Sends the message. Returns true if the send blocked.
    fn send(&mut self, fds: &[BorrowedFd<'_>], deadline: Instant) -> Result<bool, ConnectionError> {
        let (socket, fds) = (self.socket.as_fd(), fds.iter().copied());
        let left = deadline.saturating_duration_since(Instant::now());
        transport::send(socket, self.message.bytes(), fds, left, None)
    }

    /// Sends a command without a reply.
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

    /// Sends a command, and returns its reply.
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

    /// Serves commands of the server until the reply arrives, or until `deadline`. `timed` is true
    /// if the receive timeout of the socket equals the time left.
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
                    // Later receives have less time left than the receive timeout of the socket.
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

    /// Serves commands of the server.
    pub(super) fn serve(&mut self, time: Duration) -> Result<bool, ClientError> {
        self.alive(|channel| {
            let deadline = transport::after(time);
            // The reply may take `patience`, however short `time` is.
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

    /// Takes the next message. `done` may consume it; otherwise it is served as a command.
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

    /// Waits for bytes. Returns false at the deadline. `timed` is true if the receive timeout of
    /// the socket equals the time left.
    fn read(&mut self, deadline: Instant, timed: bool) -> Result<bool, ConnectionError> {
        if transport::spin(self.options.spin, || self.receive(RecvFlags::DONTWAIT))? {
            return Ok(true);
        }
        if timed && self.receive(RecvFlags::empty())? {
            return Ok(true);
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (socket, others) = (self.socket.as_fd(), [None; 2]);
            if transport::wait(socket, PollFlags::IN, others, Some(left))? == Woken::Timeout {
                return Ok(false);
            }
            if self.receive(RecvFlags::DONTWAIT)? {
                return Ok(true);
            }
        }
    }

    /// Receives as [`transport::receive`] does.
    fn receive(&mut self, flags: RecvFlags) -> Result<bool, ConnectionError> {
        let receive = if self.with_fds { transport::receive } else { transport::receive_bytes };
        receive(self.socket.as_fd(), &mut self.decoder, flags)
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

/// Serves a DMA_READ or DMA_WRITE of the device.
fn serve(
    packet: Packet<'_>,
    handler: &mut Option<&mut (dyn DmaHandler + 'static)>,
    out: &mut Vec<u8>,
) -> Result<(), Errno> {
    let handler = handler.as_deref_mut().ok_or(errno::EOPNOTSUPP)?;
    let mut data = packet.payload();
    let range: DmaRange = take(&mut data)?;
    let count = usize::try_from(range.count).map_err(|_| Errno::EINVAL)?;
    put(out, &range);
    match Command::from_raw(packet.header().command) {
        Some(Command::DmaRead) if data.is_empty() && count <= LONGEST - Header::LEN - 16 => {
            let from = out.len();
            out.resize(from + count, 0);
            handler.read(range.address, out.get_mut(from..).unwrap_or_default())
        }
        Some(Command::DmaWrite) if data.len() == count => handler.write(range.address, data),
        Some(Command::DmaRead | Command::DmaWrite) => Err(Errno::EINVAL),
        _ => Err(errno::EOPNOTSUPP),
    }
}
