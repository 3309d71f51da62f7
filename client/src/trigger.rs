//! Eventfds.

use crate::Error;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

/// The eventfd that an interrupt signals. Clones are the same eventfd and the same descriptor.
///
/// It keeps the descriptor open, since the library may have to attach it again. Made from an
/// [`EventFd`], an `Arc<EventFd>` or an [`OwnedFd`]; the library does not read it.
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
    /// A new eventfd that stands at 0, does not block and is closed by `exec`.
    ///
    /// # Errors
    ///
    /// [`Error::Descriptor`] when the process or the machine has no descriptor left.
    pub fn new() -> Result<Self, Error> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let fd = rustix::event::eventfd(0, flags);
        let fd = fd.map_err(|source| Error::descriptor("a new eventfd cannot be had", source))?;
        Ok(fd.into())
    }

    /// How often it was signalled since this was asked last; 0 also when it cannot be read. Blocks
    /// where the eventfd was made to block.
    pub fn take(&self) -> u64 {
        let mut bytes = [0; 8];
        match rustix::io::read(self, &mut bytes) {
            Ok(8) => u64::from_ne_bytes(bytes),
            _ => 0,
        }
    }

    /// Signals it, as an interrupt would.
    ///
    /// # Errors
    ///
    /// [`Error::Descriptor`] when it is no eventfd.
    pub fn signal(&self) -> Result<(), Error> {
        match rustix::io::write(self, &1_u64.to_ne_bytes()) {
            // Full: whoever waits wakes anyway.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(source) => Err(Error::descriptor("an eventfd cannot be signalled", source)),
        }
    }

    /// Whether it is signalled, without taking that away.
    pub fn is_signalled(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits until it is signalled; whether it was before `timeout` was over.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut polled = [PollFd::new(self, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        matches!(rustix::event::poll(&mut polled, timeout.as_ref()), Ok(1..))
    }

    /// rust-vmm's type, for its other crates.
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
