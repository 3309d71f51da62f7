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

/// Receives bytes and descriptors. Returns true if there were bytes.
///
/// With [`RecvFlags::DONTWAIT`] it does not block. With empty flags it blocks in `recvmsg(2)` itself,
/// which saves a `poll(2)`; it returns false if a signal arrives, or if the receive timeout of the
/// socket expires.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    decoder: &mut Decoder,
    flags: RecvFlags,
) -> Result<bool, ConnectionError> {
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let incomplete = decoder.is_incomplete();
    let flags = RecvFlags::CMSG_CLOEXEC | flags;
    let room = decoder.room();
    let got = recvmsg(socket, &mut [IoSliceMut::new(room)], &mut control, flags);
    let Some(got) = ready(got)? else { return Ok(false) };
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let truncated = got.flags.contains(ReturnFlags::CTRUNC);
    decoder.filled(got.bytes, fds.flatten(), truncated).map_err(ConnectionError::Garbage)?;
    open(got.bytes, incomplete)
}

/// Receives bytes without ancillary data, which is cheaper. The kernel closes descriptors that came
/// along. Returns as [`receive`] does.
pub(crate) fn receive_bytes(
    socket: BorrowedFd<'_>,
    decoder: &mut Decoder,
    flags: RecvFlags,
) -> Result<bool, ConnectionError> {
    let incomplete = decoder.is_incomplete();
    let got = rustix::net::recv(socket, decoder.room(), flags);
    let Some((bytes, _)) = ready(got)? else { return Ok(false) };
    decoder.filled(bytes, None, false).map_err(ConnectionError::Garbage)?;
    open(bytes, incomplete)
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

/// Returns true, or an error if a receive of no bytes says that the peer has closed the socket.
fn open(bytes: usize, incomplete: bool) -> Result<bool, ConnectionError> {
    match bytes {
        0 if incomplete => Err(ConnectionError::UnexpectedEof),
        0 => Err(ConnectionError::Closed),
        _ => Ok(true),
    }
}

/// Calls `receive` for as long as `time`, so that a busy peer costs no wake-up. Returns true if bytes
/// were received.
pub(crate) fn spin(
    time: Duration,
    mut receive: impl FnMut() -> Result<bool, ConnectionError>,
) -> Result<bool, ConnectionError> {
    if time.is_zero() {
        return Ok(false);
    }
    let until = after(time);
    loop {
        if receive()? {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        // The peer may be waiting for this processor.
        std::thread::yield_now();
    }
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
                match wait(socket, PollFlags::OUT, [stop, None], Some(left))? {
                    Woken::Socket => {}
                    Woken::Other => return Err(ConnectionError::Stopped),
                    Woken::Timeout => return Err(ConnectionError::Stuck),
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
    Timeout,
}

/// Waits until the socket or one of the eventfds `others` is ready, or until `timeout` expires.
/// Returns which.
pub(crate) fn wait(
    socket: BorrowedFd<'_>,
    events: PollFlags,
    others: [Option<BorrowedFd<'_>>; 2],
    timeout: Option<Duration>,
) -> Result<Woken, ConnectionError> {
    let timeout = timeout.map(timespec);
    let mut polled: [_; 3] = std::array::from_fn(|_| PollFd::from_borrowed_fd(socket, events));
    let mut count = 1;
    for (place, other) in polled.iter_mut().skip(1).zip(others.into_iter().flatten()) {
        *place = PollFd::from_borrowed_fd(other, PollFlags::IN);
        count += 1;
    }
    let polled = polled.get_mut(..count).unwrap_or_default();
    match poll(polled, timeout.as_ref()) {
        Ok(0) => return Ok(Woken::Timeout),
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Woken::Socket),
        Err(error) => return Err(ConnectionError::Socket(error)),
    }
    let other = polled.iter().skip(1).any(|fd| !fd.revents().is_empty());
    Ok(if other { Woken::Other } else { Woken::Socket })
}

/// Converts a timeout for `poll(2)` and `epoll_wait(2)`.
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
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
pub(crate) fn consume(waker: impl AsFd) {
    let _ = rustix::io::read(waker, &mut [0_u8; 8]);
}
