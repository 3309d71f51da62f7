//! Bytes and descriptors over a socket, without waiting longer than agreed.

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

/// Why a connection cannot go on.
///
/// ```
/// use vfio_irq_user::{Broken, Client, ClientError, ClientOptions};
/// use std::os::unix::net::UnixStream;
///
/// // A server that takes the connection and says nothing.
/// let (ours, theirs) = UnixStream::pair()?;
/// let patience = std::time::Duration::from_millis(1);
/// let options = ClientOptions { patience, ..ClientOptions::default() };
/// let error = Client::over(ours.into(), options).err().ok_or("connected")?;
/// assert!(matches!(error, ClientError::Broken(Broken::Silent)), "{error}");
/// # drop(theirs);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// It was closed at the end of a message, which is how clients leave.
    #[error("the peer closed the connection")]
    Closed,
    /// It was closed within a message.
    #[error("the peer closed the connection in the middle of a message")]
    Amid,
    /// What came is no message.
    #[error("the peer sent what is no message ({0})")]
    Garbage(vfio_irq_engine::Errno),
    /// It did not agree on a version, or broke the rules in a way that nothing sensible can follow.
    #[error("the peer does not keep to the protocol")]
    Unruly,
    /// It does not read what is sent to it, or does not finish what it began to send.
    #[error("the peer is stuck in a message")]
    Stuck,
    /// A reply that it owes did not come in time.
    #[error("the peer did not reply in time")]
    Silent,
    /// The device has a client already.
    #[error("the device has another client")]
    Busy,
    /// This process is asked to stop.
    #[error("the server was asked to stop")]
    Stopped,
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Socket(Errno),
}

/// What an attempt to read came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    Bytes,
    Nothing,
}

/// Reads what is there, without waiting.
pub(crate) fn receive(socket: BorrowedFd<'_>, decoder: &mut Decoder) -> Result<Received, Broken> {
    receive_with(socket, decoder, RecvFlags::DONTWAIT)
}

/// Sleeps in the read itself, which saves the system call that would wait before it. Ends with nothing
/// when a signal came, when the socket's own time is over, and at once where the socket does not block.
pub(crate) fn sleep_and_receive(
    socket: BorrowedFd<'_>,
    decoder: &mut Decoder,
) -> Result<Received, Broken> {
    receive_with(socket, decoder, RecvFlags::empty())
}

/// Reads bytes alone, which takes less; descriptors that came with them are closed. `flags` as for the
/// other two: [`RecvFlags::DONTWAIT`] or none.
pub(crate) fn receive_bytes(
    socket: BorrowedFd<'_>,
    decoder: &mut Decoder,
    flags: RecvFlags,
) -> Result<Received, Broken> {
    let amid = decoder.is_amid();
    let got = rustix::net::recv(socket, decoder.room(), flags);
    let Some((bytes, _)) = ready(got)? else { return Ok(Received::Nothing) };
    decoder.filled(bytes, None, false).map_err(Broken::Garbage)?;
    received(bytes, amid)
}

/// What a read came to; `None` when there was nothing.
fn ready<T>(got: rustix::io::Result<T>) -> Result<Option<T>, Broken> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(Errno::CONNRESET) => Err(Broken::Closed),
        Err(error) => Err(Broken::Socket(error)),
    }
}

fn received(bytes: usize, amid: bool) -> Result<Received, Broken> {
    match bytes {
        0 if amid => Err(Broken::Amid),
        0 => Err(Broken::Closed),
        _ => Ok(Received::Bytes),
    }
}

fn receive_with(
    socket: BorrowedFd<'_>,
    decoder: &mut Decoder,
    flags: RecvFlags,
) -> Result<Received, Broken> {
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
    decoder.filled(got.bytes, fds.flatten(), robbed).map_err(Broken::Garbage)?;
    received(got.bytes, amid)
}

/// When so much time will be over: in a century, where it is more than a clock can tell.
pub(crate) fn after(time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + time.min(CENTURY)
}

/// Sends a whole message. Waits for a peer that does not read until `patience` is over, or until
/// `stop` can be read. Returns whether it had to wait.
pub(crate) fn send<'f>(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    fds: impl ExactSizeIterator<Item = BorrowedFd<'f>>,
    patience: Duration,
    stop: Option<BorrowedFd<'_>>,
) -> Result<bool, Broken> {
    // An empty vector takes no memory, and most messages have no descriptor.
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
                    Woken::Other => return Err(Broken::Stopped),
                    Woken::Nobody => return Err(Broken::Stuck),
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(Broken::Closed),
            Err(error) => return Err(Broken::Socket(error)),
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

/// Who ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    Socket,
    Other,
    Nobody,
}

/// Waits for the socket or for any of the others to become readable.
pub(crate) fn wait<'f>(
    socket: BorrowedFd<'f>,
    events: PollFlags,
    others: impl Iterator<Item = BorrowedFd<'f>>,
    timeout: Option<Duration>,
) -> Result<Woken, Broken> {
    let timeout = timeout.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    // The socket, and the eventfd that stops it; more only while eventfds of the client's are armed.
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

fn poll_once(polled: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<Woken, Broken> {
    match poll(polled, timeout) {
        Ok(0) => return Ok(Woken::Nobody),
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Woken::Socket),
        Err(error) => return Err(Broken::Socket(error)),
    }
    let other = polled.iter().skip(1).any(|fd| !fd.revents().is_empty());
    Ok(if other { Woken::Other } else { Woken::Socket })
}

/// An eventfd of our own, to wake a thread with.
pub(crate) fn waker() -> rustix::io::Result<std::os::fd::OwnedFd> {
    use rustix::event::EventfdFlags;
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

/// Wakes whoever waits for it.
pub(crate) fn wake(waker: impl AsFd) {
    // A counter that is full wakes just as well.
    let _ = rustix::io::write(waker, &1_u64.to_ne_bytes());
}

/// Takes the wake-ups that have come.
pub(crate) fn calm(waker: impl AsFd) {
    let _ = rustix::io::read(waker, &mut [0_u8; 8]);
}
