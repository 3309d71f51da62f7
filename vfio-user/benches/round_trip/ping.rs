//! The least work of a round trip: bytes there and back, with or without a descriptor, and without
//! parsing.

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv,
    recvmsg, send, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// A length above that of every message.
const ROOM: usize = 64;

/// The lengths of request and reply, and whether a descriptor is sent along.
#[derive(Clone, Copy)]
pub struct Lengths {
    pub request: u8,
    pub reply: u8,
    pub descriptor: bool,
}

const SPACE: usize = rustix::cmsg_space!(ScmRights(1));

/// Answers each client in a thread of its own, which polls for the next message for `spin` before
/// it sleeps.
pub fn serve(listener: &UnixListener, spin: Duration) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || echo(stream, spin));
    }
}

/// Echoes messages; the client's first bytes hold the lengths.
fn echo(mut stream: UnixStream, spin: Duration) -> io::Result<()> {
    let mut lengths = [0; 3];
    stream.read_exact(&mut lengths)?;
    let [request, reply, descriptor] = lengths;
    let lengths = Lengths { request, reply, descriptor: descriptor != 0 };
    let bytes = [7; ROOM];
    while take(stream.as_fd(), lengths.request, lengths.descriptor, spin)? {
        put(stream.as_fd(), bytes.get(..lengths.reply.into()).unwrap_or_default(), None)?;
    }
    Ok(())
}

/// Reads a message. Closes its descriptor, as a device closes the previous eventfd. Returns false
/// at the end.
fn take(socket: BorrowedFd<'_>, len: u8, descriptor: bool, spin: Duration) -> io::Result<bool> {
    let (mut room, mut got) = ([0; ROOM], 0);
    while got < len.into() {
        let room = room.get_mut(got..).unwrap_or_default();
        let bytes = match look(socket, room, descriptor, spin)? {
            Some(bytes) => bytes,
            None => read(socket, room, descriptor, RecvFlags::empty())?,
        };
        if bytes == 0 {
            return Ok(false);
        }
        got += bytes;
    }
    Ok(true)
}

/// Polls for bytes before a sleep. Returns `None` if none arrived in time.
fn look(
    socket: BorrowedFd<'_>,
    room: &mut [u8],
    descriptor: bool,
    spin: Duration,
) -> io::Result<Option<usize>> {
    if spin.is_zero() {
        return Ok(None);
    }
    let until = Instant::now() + spin;
    loop {
        match read(socket, room, descriptor, RecvFlags::DONTWAIT) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(Errno::AGAIN) if Instant::now() < until => std::thread::yield_now(),
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn read(
    socket: BorrowedFd<'_>,
    room: &mut [u8],
    descriptor: bool,
    flags: RecvFlags,
) -> Result<usize, Errno> {
    if !descriptor {
        return Ok(recv(socket, room, flags)?.1);
    }
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(room)];
    Ok(recvmsg(socket, &mut slices, &mut control, flags | RecvFlags::CMSG_CLOEXEC)?.bytes)
}

fn put(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let Some(fd) = fd else {
        send(socket, bytes, SendFlags::NOSIGNAL)?;
        return Ok(());
    };
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The client of the ping-pong.
pub struct Pinger {
    stream: UnixStream,
    lengths: Lengths,
    /// How long to poll for the reply before sleeping.
    spin: Duration,
}

impl Pinger {
    pub fn connect(path: &Path, lengths: Lengths, spin: Duration) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        put(stream.as_fd(), &[lengths.request, lengths.reply, lengths.descriptor.into()], None)?;
        Ok(Self { stream, lengths, spin })
    }

    /// Makes one round trip.
    pub fn ask(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let socket = self.stream.as_fd();
        let bytes = [7; ROOM];
        let bytes = bytes.get(..self.lengths.request.into()).unwrap_or_default();
        put(socket, bytes, self.lengths.descriptor.then_some(fd))?;
        let there = take(socket, self.lengths.reply, false, self.spin)?;
        if there { Ok(()) } else { Err(Errno::PIPE.into()) }
    }
}
