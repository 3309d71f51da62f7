//! Eventfds of the running system, and waiting for one.

use crate::Error;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long a signal may take that must come: only a broken promise waits so long, whatever else
/// the machine is busy with.
const PATIENCE: Duration = Duration::from_secs(10);

/// An eventfd that is never waited for by reading.
#[derive(Debug)]
pub struct Eventfd(OwnedFd);

impl Eventfd {
    /// A new one, at 0.
    pub fn new() -> Result<Self, Error> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let fd = rustix::event::eventfd(0, flags);
        Ok(Self(fd.map_err(|source| Error::Descriptor { what: "opened", source })?))
    }

    /// Its number, as SET_IRQS takes it.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// How often it was signalled since this was asked last.
    pub fn take(&self) -> u64 {
        let mut bytes = [0; 8];
        match rustix::io::read(&self.0, &mut bytes) {
            Ok(8) => u64::from_ne_bytes(bytes),
            // It stands at 0.
            _ => 0,
        }
    }

    /// Signals it.
    pub fn signal(&self) -> Result<(), Error> {
        let written = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        written.map_err(|source| Error::Descriptor { what: "signalled", source })?;
        Ok(())
    }

    /// Waits until it is signalled, ten seconds at most; whether it was.
    pub fn wait(&self) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        let seconds = i64::try_from(PATIENCE.as_secs()).unwrap_or(1);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut polled, Some(&timeout)), Ok(1..))
    }
}

impl AsFd for Eventfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
