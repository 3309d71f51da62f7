//! Eventfds of a client's.

use super::cell::{Process, Target};
use super::pins::{self, Pin};
use crate::sys;
use rustix::fs::OFlags;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;
use vfio_irq_engine::Errno;

/// Eventfds of the kernel's, and the threads of this process.
pub(crate) struct Eventfds;

impl Process<AtomicU64> for Eventfds {
    #[inline]
    fn signal(&self, target: Target) {
        sys::signal(target.fd, target.may_block);
    }

    fn each_pin(&self, visit: impl FnMut(&Pin<AtomicU64>)) {
        pins::all().for_each(visit);
    }
}

/// An eventfd that a client gave us; given up when dropped.
///
/// Whether a write to it waits while its counter is full is the client's to change at any time. One
/// that makes a raise wait has it wait for as long as it leaves the vector alone: whoever takes the
/// eventfd away empties the counter ([`pause`]), and so does who waits for the thread that serves the client
/// ([`super::Table::make_room`]).
#[derive(Debug)]
pub(crate) struct Trigger {
    fd: OwnedFd,
    may_block: bool,
    /// The descriptor that it was compared with when it came, and whether it is the same eventfd.
    compared: Option<(u32, bool)>,
}

impl Trigger {
    /// `EINVAL` for a file that is no eventfd (`CONTRACT.md`, V-10).
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        if !sys::is_eventfd(fd.as_fd()) {
            return Err(Errno::EINVAL);
        }
        let may_block = may_block(fd.as_fd()).map_err(sys::errno_of)?;
        Ok(Self::known(fd, may_block))
    }

    /// The same for a vector that has an eventfd, which the caller keeps open. Clients say again what
    /// they have said before, and what is known of an eventfd need not be found out again.
    pub(crate) fn beside(fd: OwnedFd, attached: Target) -> Result<Self, Errno> {
        let same = sys::is_same(fd.as_fd(), attached.fd);
        let new = if same { Self::known(fd, attached.may_block) } else { Self::new(fd)? };
        Ok(Self { compared: Some((attached.fd, same)), ..new })
    }

    fn known(fd: OwnedFd, may_block: bool) -> Self {
        Self { fd, may_block, compared: None }
    }

    pub(crate) fn target(&self) -> Target {
        // A descriptor that is open is not negative.
        Target { fd: self.fd.as_raw_fd().cast_unsigned(), may_block: self.may_block }
    }

    pub(crate) fn signal(&self) {
        sys::signal_fd(self.fd.as_fd(), self.may_block);
    }

    /// Waits until nobody signals it but those that keep it. It must not be found by others any more.
    pub(crate) fn settle(shared: &Arc<Self>, keepers: usize) {
        let mut turns = 0_u32;
        while Arc::strong_count(shared) > keepers {
            pause(turns, Some(shared.target()));
            turns = turns.saturating_add(1);
        }
        // After what they did before they let go of it.
        fence(Ordering::Acquire);
    }

    /// Ends the wait of whoever writes to it.
    pub(crate) fn make_room(&self) {
        sys::make_room(self.target().fd);
    }

    /// Takes what was counted; whether there was anything.
    pub(crate) fn drain(&self) -> bool {
        sys::drain(self.fd.as_fd())
    }

    /// Whether one that has just come is the same eventfd.
    pub(crate) fn is(&self, new: &Self) -> bool {
        match new.compared {
            Some((with, same)) if with == self.target().fd => same,
            _ => sys::same_file(self.fd.as_fd(), new.fd.as_fd()),
        }
    }
}

/// Whether a write waits while the counter is full.
fn may_block(fd: std::os::fd::BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(!rustix::fs::fcntl_getfl(fd)?.contains(OFlags::NONBLOCK))
}

impl AsFd for Trigger {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// For waiting for raises that are under way: each takes one system call. Whoever raises may run only
/// when this thread does not, so it sleeps in the end.
///
/// A client that filled the counter of `eventfd` to make a write wait gains nothing: after a while the
/// counter is emptied. The caller keeps the eventfd open.
pub(crate) fn pause(turn: u32, eventfd: Option<Target>) {
    const PATIENCE: u32 = 2000;
    match turn {
        ..64 => std::hint::spin_loop(),
        64..1024 => std::thread::yield_now(),
        _ => std::thread::sleep(Duration::from_micros(50)),
    }
    if turn > PATIENCE && turn.is_multiple_of(64) {
        eventfd.into_iter().for_each(|eventfd| sys::make_room(eventfd.fd));
    }
}
