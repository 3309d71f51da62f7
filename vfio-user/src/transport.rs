//! Sends and receives bytes and descriptors over a socket, with a time limit.

use crate::wire::{Decoder, MAX_FDS};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

const FDS_SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// The reason why a connection ended.
///
/// ```
/// use vfio_irq_user::{ConnectionError, Client, ClientError, ClientOptions};
/// use std::os::unix::net::UnixStream;
///
/// // A server that takes the connection and says nothing.
/// let (ours, theirs) = UnixStream::pair()?;
/// let patience = std::time::Duration::from_millis(1);
/// let options = ClientOptions { patience, ..ClientOptions::default() };
/// let error = Client::over(ours.into(), options).err().ok_or("connected")?;
/// assert!(matches!(error, ClientError::Broken(ConnectionError::ReplyTimeout)), "{error}");
/// # drop(theirs);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The peer closed the socket between messages, as a client does that disconnects.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed the socket within a message.
    #[error("the peer closed the connection in the middle of a message")]
    UnexpectedEof,
    /// The peer sent bytes that do not decode to a message.
    #[error("the peer sent what is no message ({0})")]
    Garbage(vfio_irq_engine::Errno),
    /// The peer did not negotiate a version, or broke the protocol beyond recovery.
    #[error("the peer does not keep to the protocol")]
    ProtocolViolation,
    /// The peer does not read what it was sent, or does not finish a message.
    #[error("the peer is stuck in a message")]
    Stuck,
    /// The peer did not reply within the time limit.
    #[error("the peer did not reply in time")]
    ReplyTimeout,
    /// The device has another client.
    #[error("the device has another client")]
    Busy,
    /// The server was asked to stop.
    #[error("the server was asked to stop")]
    Stopped,
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Socket(Errno),
}

/// The result of a receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    Bytes,
    Nothing,
}

/// Receives available bytes without blocking. Returns an error if the connection has ended.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    decoder: &mut Decoder,
) -> Result<Received, ConnectionError> {
    receive_with(socket, decoder, RecvFlags::DONTWAIT)
}

/// Blocks in `recvmsg(2)` itself, which saves a `poll(2)` before it. Returns `Nothing` if a signal
/// arrives, if the receive timeout of the socket expires, or if the socket does not block.
pub(crate) fn sleep_and_receive(
    socket: BorrowedFd<'_>,
    decoder: &mut Decoder,
) -> Result<Received, ConnectionError> {
    receive_with(socket, decoder, RecvFlags::empty())
}

/// Receives bytes without ancillary data, which is cheaper; the kernel closes descriptors that came
/// along. `flags` is [`RecvFlags::DONTWAIT`] or empty.
pub(crate) fn receive_bytes(
    socket: BorrowedFd<'_>,
    decoder: &mut Decoder,
    flags: RecvFlags,
) -> Result<Received, ConnectionError> {
    let amid = decoder.is_amid();
    let got = rustix::net::recv(socket, decoder.room(), flags);
    let Some((bytes, _)) = ready(got)? else { return Ok(Received::Nothing) };
    decoder.filled(bytes, None, false).map_err(ConnectionError::Garbage)?;
    received(bytes, amid)
}

/// Maps the result of a system call. Returns `None` if there was nothing to receive.
fn ready<T>(got: rustix::io::Result<T>) -> Result<Option<T>, ConnectionError> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(Errno::CONNRESET) => Err(ConnectionError::Closed),
        Err(error) => Err(ConnectionError::Socket(error)),
    }
}

fn received(bytes: usize, amid: bool) -> Result<Received, ConnectionError> {
    match bytes {
        0 if amid => Err(ConnectionError::UnexpectedEof),
        0 => Err(ConnectionError::Closed),
        _ => Ok(Received::Bytes),
    }
}

fn receive_with(
    socket: BorrowedFd<'_>,
    decoder: &mut Decoder,
    flags: RecvFlags,
) -> Result<Received, ConnectionError> {
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let amid = decoder.is_amid();
    let flags = RecvFlags::CMSG_CLOEXEC | flags;
    let room = decoder.room();
    let got = recvmsg(socket, &mut [IoSliceMut::new(room)], &mut control, flags);
    let Some(got) = ready(got)? else { return Ok(Received::Nothing) };
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let robbed = got.flags.contains(ReturnFlags::CTRUNC);
    decoder.filled(got.bytes, fds.flatten(), robbed).map_err(ConnectionError::Garbage)?;
    received(got.bytes, amid)
}

/// Returns the instant after `time`. Limits `time` to a century, because `Instant` overflows.
pub(crate) fn after(time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + time.min(CENTURY)
}

/// Sends a whole message. If the peer does not read, blocks until `patience` expires or `stop` is
/// readable. Returns true if it blocked.
pub(crate) fn send<'f>(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    fds: impl ExactSizeIterator<Item = BorrowedFd<'f>>,
    patience: Duration,
    stop: Option<BorrowedFd<'_>>,
) -> Result<bool, ConnectionError> {
    // An empty vector does not allocate, and most messages carry no descriptor.
    let fds: Vec<BorrowedFd<'_>> = fds.collect();
    let mut fds = fds.as_slice();
    let mut deadline = None;
    while !bytes.is_empty() {
        match send_once(socket, bytes, fds) {
            Ok(sent) => {
                bytes = bytes.get(sent..).unwrap_or_default();
                fds = &[];
            }
            Err(Errno::AGAIN) => {
                let deadline = *deadline.get_or_insert_with(|| after(patience));
                let left = deadline.saturating_duration_since(Instant::now());
                match wait(socket, PollFlags::OUT, stop.into_iter(), Some(left))? {
                    Woken::Socket => {}
                    Woken::Other => return Err(ConnectionError::Stopped),
                    Woken::Nobody => return Err(ConnectionError::Stuck),
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(ConnectionError::Closed),
            Err(error) => return Err(ConnectionError::Socket(error)),
        }
    }
    Ok(deadline.is_some())
}

fn send_once(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    if fds.is_empty() {
        return rustix::net::send(socket, bytes, flags);
    }
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}

/// The reason why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    Socket,
    Other,
    Nobody,
}

/// Waits until the socket or one of the others is ready, or until `timeout` expires. Returns which.
pub(crate) fn wait<'f>(
    socket: BorrowedFd<'f>,
    events: PollFlags,
    others: impl Iterator<Item = BorrowedFd<'f>>,
    timeout: Option<Duration>,
) -> Result<Woken, ConnectionError> {
    let timeout = timeout.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    // The common case is the socket and the stop eventfd. There are more only while the client has
    // resample eventfds.
    let mut few = [
        PollFd::from_borrowed_fd(socket, events),
        PollFd::from_borrowed_fd(socket, PollFlags::empty()),
    ];
    let mut others = others.peekable();
    let first = others.next();
    if others.peek().is_none() {
        let polled = match first {
            Some(other) => {
                few[1] = PollFd::from_borrowed_fd(other, PollFlags::IN);
                few.as_mut_slice()
            }
            None => &mut few[..1],
        };
        return poll_once(polled, timeout.as_ref());
    }
    let mut many: Vec<_> = first
        .into_iter()
        .chain(others)
        .map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN))
        .collect();
    many.insert(0, PollFd::from_borrowed_fd(socket, events));
    poll_once(&mut many, timeout.as_ref())
}

fn poll_once(
    polled: &mut [PollFd<'_>],
    timeout: Option<&Timespec>,
) -> Result<Woken, ConnectionError> {
    match poll(polled, timeout) {
        Ok(0) => return Ok(Woken::Nobody),
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Woken::Socket),
        Err(error) => return Err(ConnectionError::Socket(error)),
    }
    let other = polled.iter().skip(1).any(|fd| !fd.revents().is_empty());
    Ok(if other { Woken::Other } else { Woken::Socket })
}

/// Creates an eventfd that wakes a thread.
pub(crate) fn waker() -> rustix::io::Result<std::os::fd::OwnedFd> {
    use rustix::event::EventfdFlags;
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

/// Wakes the thread that polls `waker`.
pub(crate) fn wake(waker: impl AsFd) {
    // EAGAIN is harmless: a full counter is readable, so it wakes the thread as well.
    let _ = rustix::io::write(waker, &1_u64.to_ne_bytes());
}

/// Consumes the wake-ups of `waker`.
pub(crate) fn calm(waker: impl AsFd) {
    let _ = rustix::io::read(waker, &mut [0_u8; 8]);
}
