//! Publishes the counts of a served device on a socket beside the device's own.
//!
//! A device has one client at a time, so observers use another socket. `PATH.counts` answers each
//! connection with one line of JSON ([`crate::counts::Counts`]) and closes it.

use crate::counts::{Counts, Row};
use crate::error::Error;
use crate::report;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{debug, warn};
use vfio_irq_user::Interrupts;

/// The longest time for one answer. Other readers wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest answer: a vector takes a few hundred bytes.
const LONGEST: u64 = 16 << 20;

/// Returns the path of the counts of a socket's device.
pub fn beside(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".counts");
    path.into()
}

/// Returns the counts of the first `vectors` interrupts of an emulated device. Omits vectors that
/// were never used.
pub fn of(interrupts: &Interrupts, vectors: u32) -> Counts {
    let row = |vector| {
        let counted = interrupts.counts(vector);
        let state = match (interrupts.is_attached(vector), interrupts.is_masked(vector)) {
            (true, false) => "unmasked",
            (true, true) if interrupts.is_pending(vector) => "masked, pending",
            (true, true) => "masked",
            (false, true) => "masked, empty",
            (false, false) => "empty",
        };
        let used = state != "empty" || counted != vfio_irq_user::VectorCounts::default();
        used.then(|| Row {
            vector: Some(vector),
            irq: None,
            state: Some(state.to_owned()),
            signals: Some(counted.signals),
            rate: None,
            masks: Some(counted.masks),
            unmasks: Some(counted.unmasks),
            retargets: Some(counted.retargets),
            loopbacks: Some(counted.loopbacks),
            failures: Some(counted.failures),
        })
    };
    let dropped = (0..vectors).map(|vector| interrupts.counts(vector).dropped).sum();
    Counts {
        totals: [("dropped".to_owned(), dropped)].into(),
        vectors: (0..vectors).filter_map(row).collect(),
        ..Counts::default()
    }
}

/// A socket that publishes counts.
pub struct Published {
    path: PathBuf,
    inode: u64,
    listener: UnixListener,
    counts: Box<dyn Fn() -> Counts + Send>,
}

impl Published {
    /// Binds the socket beside the socket of a served device. The device's own socket was free, so
    /// an existing file is stale.
    pub fn bind(
        socket: &Path,
        counts: impl Fn() -> Counts + Send + 'static,
    ) -> Result<Self, Error> {
        let path = beside(socket);
        let failed = |error| Error::plain(format!("cannot listen on {}: {error}", path.display()));
        let bound = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(&path) => {
                std::fs::remove_file(&path).and_then(|()| UnixListener::bind(&path))
            }
            bound => bound,
        };
        let listener = bound.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let inode = std::fs::symlink_metadata(&path).map_err(failed)?.ino();
        Ok(Self { path, inode, listener, counts: Box::new(counts) })
    }

    /// Answers the next connection.
    fn answer(&self) {
        let Ok((mut reader, _)) = self.listener.accept() else { return };
        let line = report::line(&(self.counts)()).map_err(io::Error::other);
        let sent = line.and_then(|line| send(&mut reader, line.as_bytes()));
        if let Err(error) = sent {
            debug!(path = %self.path.display(), %error, "a reader of counts was left");
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode);
        if ours {
            // Another process may have removed the file already.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns true if no process listens on a socket.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).err().is_some_and(refused)
}

/// Sends all bytes. Gives up if the reader does not read for a while.
fn send(reader: &mut UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    reader.set_nonblocking(true)?;
    while !bytes.is_empty() {
        match reader.write(bytes) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                let left = Timespec::try_from(left).map_err(io::Error::other)?;
                let ready = poll(&mut [PollFd::new(reader, PollFlags::OUT)], Some(&left))?;
                if ready == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The thread that answers on all sockets. Dropping it removes the sockets.
pub struct Publisher {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// Starts to answer on all these sockets.
///
/// # Errors
///
/// If this process can have no more threads or descriptors.
pub fn publish(sockets: Vec<Published>) -> io::Result<Publisher> {
    let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let its = Arc::clone(&stop);
    let builder = std::thread::Builder::new().name("counts".into());
    let thread = builder.spawn(move || answer_all(&sockets, &its))?;
    Ok(Publisher { stop, thread: Some(thread) })
}

fn answer_all(sockets: &[Published], stop: &OwnedFd) {
    loop {
        let listeners = sockets.iter().map(|socket| socket.listener.as_fd());
        let watched = std::iter::once(stop.as_fd()).chain(listeners);
        let mut polled: Vec<_> =
            watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return warn!(%error, "counts are not told any more"),
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        if ready.next() == Some(true) {
            return;
        }
        sockets
            .iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
            .for_each(|(socket, _)| socket.answer());
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // A write to an eventfd at 0 succeeds.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Reads the counts of the device behind a socket.
///
/// # Errors
///
/// If no process publishes them.
pub fn read(socket: &Path) -> Result<Counts, Error> {
    let path = beside(socket);
    let ask = || {
        let stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(2 * PATIENCE))?;
        let mut text = String::new();
        stream.take(LONGEST).read_to_string(&mut text)?;
        io::Result::Ok(text)
    };
    let text = ask().map_err(|error| {
        let remedy =
            "`vfio-irq serve` tells them beside the socket that it serves; other servers do not";
        Error::new(format!("no counts at {}: {error}", path.display()), remedy)
    })?;
    let senseless =
        |error| Error::plain(format!("what {} says makes no sense: {error}", path.display()));
    serde_json::from_str(&text).map_err(senseless)
}

#[cfg(test)]
mod tests {
    use super::send;
    use std::io::{ErrorKind, Read};
    use std::os::unix::net::UnixStream;

    /// More bytes than a socket buffers.
    const MUCH: usize = 8 << 20;

    #[test]
    fn a_reader_gets_all_and_one_that_does_not_read_is_left() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            there.read_to_end(&mut all).map(|_| all.len())
        });
        send(&mut here, &vec![7; MUCH]).unwrap();
        drop(here);
        assert_eq!(reader.join().unwrap().unwrap(), MUCH);
        let (mut here, there) = UnixStream::pair().unwrap();
        assert_eq!(send(&mut here, &vec![7; MUCH]).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(there);
        assert!(send(&mut here, &[7]).is_err());
    }
}
