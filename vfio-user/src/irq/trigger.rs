//! Eventfds that the client attached, and how long they stay open.

use super::cell::{Process, Target};
use super::hazard::{self, Hazard};
use crate::sys;
use rustix::fs::OFlags;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;
use vfio_irq_engine::Errno;

/// The production [`Process`]: eventfds of the kernel and threads of this process.
pub(crate) struct Eventfds;

impl Process<AtomicU64> for Eventfds {
    #[inline]
    fn signal(&self, target: Target) {
        sys::signal(target.fd, target.may_block);
    }

    fn each_hazard(&self, visit: impl FnMut(&Hazard<AtomicU64>)) {
        hazard::all().for_each(visit);
    }
}

/// An eventfd that the client sent. Dropping the trigger closes it.
///
/// # Lifetime
///
/// A cell stores the descriptor number, not an `Arc`: a raise must not touch a reference count. So
/// the trigger may be dropped only after the cell no longer names the descriptor and all hazard
/// pointers are clear ([`super::cell::Cell::settle`]).
///
/// # A write that blocks
///
/// The client can clear `O_NONBLOCK` and fill the counter at any time; then a raise blocks in the
/// eventfd write. The raise blocks only while the client leaves the vector alone. If the client
/// detaches the eventfd, the server empties the counter ([`pause`]). If a second client or a stop
/// waits for the serving thread, the server does the same ([`super::Table::make_room`]).
#[derive(Debug)]
pub(crate) struct Trigger {
    fd: OwnedFd,
    may_block: bool,
    /// The descriptor that this one was compared with on arrival, and whether both are the same
    /// eventfd.
    compared: Option<(u32, bool)>,
}

impl Trigger {
    /// Takes a descriptor that the client sent. Returns `EINVAL` if it is not an eventfd
    /// (`CONTRACT.md`, V-10).
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        if !sys::is_eventfd(fd.as_fd()) {
            return Err(Errno::EINVAL);
        }
        let may_block = may_block(fd.as_fd()).map_err(sys::errno_of)?;
        Ok(Self::known(fd, may_block))
    }

    /// Takes a descriptor for a vector that has an eventfd already; the caller keeps `attached`
    /// open. Clients often attach the same eventfd again, so a match skips the checks of
    /// [`Trigger::new`]. Returns the same errors.
    pub(crate) fn beside(fd: OwnedFd, attached: Target) -> Result<Self, Errno> {
        let same = sys::is_same(fd.as_fd(), attached.fd);
        let new = if same { Self::known(fd, attached.may_block) } else { Self::new(fd)? };
        Ok(Self { compared: Some((attached.fd, same)), ..new })
    }

    fn known(fd: OwnedFd, may_block: bool) -> Self {
        Self { fd, may_block, compared: None }
    }

    pub(crate) fn target(&self) -> Target {
        // An open descriptor is not negative.
        Target { fd: self.fd.as_raw_fd().cast_unsigned(), may_block: self.may_block }
    }

    pub(crate) fn signal(&self) {
        sys::signal_fd(self.fd.as_fd(), self.may_block);
    }

    /// Waits until only `keepers` references are left, so no thread signals the eventfd. Remove the
    /// trigger from its owner first, so that no thread can clone it again.
    pub(crate) fn settle(shared: &Arc<Self>, keepers: usize) {
        let mut turns = 0_u32;
        while Arc::strong_count(shared) > keepers {
            pause(turns, Some(shared.target()));
            turns = turns.saturating_add(1);
        }
        // Pairs with the release in `Arc::drop` of the other threads.
        fence(Ordering::Acquire);
    }

    /// Empties the counter, so that a thread that blocks in a write continues.
    pub(crate) fn make_room(&self) {
        sys::make_room(self.target().fd);
    }

    /// Reads the counter. Returns true if it was not zero.
    pub(crate) fn drain(&self) -> bool {
        sys::drain(self.fd.as_fd())
    }

    /// Returns true if `new` is the same eventfd.
    pub(crate) fn is(&self, new: &Self) -> bool {
        match new.compared {
            Some((with, same)) if with == self.target().fd => same,
            _ => sys::same_file(self.fd.as_fd(), new.fd.as_fd()),
        }
    }
}

/// Returns true if a write blocks while the counter is full.
fn may_block(fd: std::os::fd::BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(!rustix::fs::fcntl_getfl(fd)?.contains(OFlags::NONBLOCK))
}

impl AsFd for Trigger {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Pauses a thread that waits for a raise in progress. A raise is one system call, so the wait
/// spins first. It sleeps in the end, because the raising thread may need this processor.
///
/// If the client filled the counter of `eventfd` to block the raise, the wait empties the counter
/// after a while. The caller keeps the eventfd open.
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
