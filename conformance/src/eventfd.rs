//! Creates eventfds of the running system and waits for them.

use crate::Error;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The longest wait for a signal that must come. Only a broken rule takes so long, however busy the
/// machine is.
const PATIENCE: Duration = Duration::from_secs(10);

/// An eventfd that no thread reads in blocking mode.
#[derive(Debug)]
pub struct Eventfd(OwnedFd);

impl Eventfd {
    /// Creates an eventfd with counter 0.
    pub fn new() -> Result<Self, Error> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let fd = rustix::event::eventfd(0, flags);
        Ok(Self(fd.map_err(|source| Error::Descriptor { what: "opened", source })?))
    }

    /// Returns its number, as SET_IRQS takes it.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Resets the counter. Returns the number of signals since the last call.
    pub fn take(&self) -> u64 {
        let mut bytes = [0; 8];
        match rustix::io::read(&self.0, &mut bytes) {
            Ok(8) => u64::from_ne_bytes(bytes),
            // The counter is 0.
            _ => 0,
        }
    }

    /// Signals it.
    pub fn signal(&self) -> Result<(), Error> {
        let written = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        written.map_err(|source| Error::Descriptor { what: "signalled", source })?;
        Ok(())
    }

    /// Waits at most ten seconds for a signal. Returns true if there was one.
    pub fn wait(&self) -> bool {
        self.is_signalled_within(PATIENCE)
    }

    /// Returns true if it is signalled now.
    pub fn is_signalled(&self) -> bool {
        self.is_signalled_within(Duration::ZERO)
    }

    fn is_signalled_within(&self, time: Duration) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        let timeout = Timespec::try_from(time).ok();
        matches!(rustix::event::poll(&mut polled, timeout.as_ref()), Ok(1..))
    }
}

impl AsFd for Eventfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The eventfds of a target, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Eventfds(BTreeMap<i32, Eventfd>);

impl Eventfds {
    /// Creates an eventfd. Returns its number.
    pub(crate) fn create(&mut self) -> Result<i32, Error> {
        let eventfd = Eventfd::new()?;
        let number = eventfd.number();
        self.0.insert(number, eventfd);
        Ok(number)
    }

    /// Returns the eventfd of a number, or an error if the target created none.
    pub(crate) fn get(&self, number: i32) -> Result<&Eventfd, Error> {
        let source = rustix::io::Errno::BADF;
        self.0.get(&number).ok_or(Error::Descriptor { what: "found", source })
    }

    /// Closes all of them.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
