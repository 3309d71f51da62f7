//! Eventfds.

use crate::Error;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

/// The eventfd that an interrupt signals. Clones share one descriptor.
///
/// A trigger keeps the descriptor open, since the library may have to attach it again. A trigger is
/// made from an [`EventFd`], an `Arc<EventFd>` or an [`OwnedFd`]. The library never reads an eventfd
/// that the caller made.
///
/// ```
/// use vfio_irq::Trigger;
///
/// let trigger = Trigger::new()?;
/// assert_eq!(trigger.take(), 0);
/// trigger.signal()?;
/// trigger.signal()?;
/// assert_eq!(trigger.take(), 2);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trigger(Arc<EventFd>);

impl Trigger {
    /// Creates an eventfd with a count of 0, nonblocking and close-on-exec. Returns it.
    ///
    /// # Errors
    ///
    /// [`Error::Descriptor`] if the process or the system has no descriptor left.
    pub fn new() -> Result<Self, Error> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let fd = rustix::event::eventfd(0, flags);
        let fd = fd.map_err(|source| Error::descriptor("a new eventfd cannot be had", source))?;
        Ok(fd.into())
    }

    /// Reads the eventfd. Returns the number of signals since the last read, or 0 if the read
    /// fails. If the eventfd is in blocking mode, this call blocks.
    pub fn take(&self) -> u64 {
        let mut bytes = [0; 8];
        match rustix::io::read(self, &mut bytes) {
            Ok(8) => u64::from_ne_bytes(bytes),
            _ => 0,
        }
    }

    /// Signals the eventfd, as an interrupt does.
    ///
    /// # Errors
    ///
    /// [`Error::Descriptor`] if the descriptor is not an eventfd.
    pub fn signal(&self) -> Result<(), Error> {
        match rustix::io::write(self, &1_u64.to_ne_bytes()) {
            // EAGAIN: the counter is at its maximum, so the reader wakes in any case.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(source) => Err(Error::descriptor("an eventfd cannot be signalled", source)),
        }
    }

    /// Returns true if the eventfd is signalled. The call does not read the count.
    pub fn is_signalled(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits until the eventfd is signalled. Returns false if `timeout` expires first.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut polled = [PollFd::new(self, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        matches!(rustix::event::poll(&mut polled, timeout.as_ref()), Ok(1..))
    }

    /// Returns true if no clone of this trigger exists.
    #[cfg(feature = "kvm")]
    pub(crate) fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Returns the eventfd as rust-vmm's type.
    pub fn eventfd(&self) -> &EventFd {
        &self.0
    }
}

impl From<EventFd> for Trigger {
    fn from(eventfd: EventFd) -> Self {
        Self(Arc::new(eventfd))
    }
}

impl From<Arc<EventFd>> for Trigger {
    fn from(eventfd: Arc<EventFd>) -> Self {
        Self(eventfd)
    }
}

impl From<OwnedFd> for Trigger {
    fn from(fd: OwnedFd) -> Self {
        Self(Arc::new(crate::sys::eventfd(fd)))
    }
}

impl From<&Trigger> for Trigger {
    fn from(trigger: &Trigger) -> Self {
        trigger.clone()
    }
}

impl AsFd for Trigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        crate::sys::eventfd_fd(&self.0)
    }
}
