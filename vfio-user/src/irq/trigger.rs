//! Eventfds of a client's.

use super::cell::{Process, Target};
use super::pins::{self, Pin};
use crate::sys;
use rustix::fs::OFlags;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;
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
#[derive(Debug)]
pub(crate) struct Trigger {
    fd: OwnedFd,
    may_block: bool,
}

impl Trigger {
    /// `EINVAL` for a file that is no eventfd (`CONTRACT.md`, V-10).
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        if !sys::is_eventfd(fd.as_fd()) {
            return Err(Errno::EINVAL);
        }
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(sys::errno_of)?;
        Ok(Self { fd, may_block: !flags.contains(OFlags::NONBLOCK) })
    }

    pub(crate) fn target(&self) -> Target {
        // A descriptor that is open is not negative.
        Target { fd: self.fd.as_raw_fd().cast_unsigned(), may_block: self.may_block }
    }

    pub(crate) fn signal(&self) {
        sys::signal_fd(self.fd.as_fd(), self.may_block);
    }

    /// Takes what was counted; whether there was anything.
    pub(crate) fn drain(&self) -> bool {
        sys::drain(self.fd.as_fd())
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        sys::same_file(self.fd.as_fd(), other.fd.as_fd())
    }

    /// For waiting while raises that use this eventfd are under way. A client that filled its
    /// counter to make a write wait gains nothing: after a while the counter is emptied.
    pub(crate) fn pause(&self, turn: u32) {
        const PATIENCE: u32 = 10_000;
        if self.may_block && turn > PATIENCE {
            self.drain();
        }
        pause(turn);
    }
}

impl AsFd for Trigger {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// For waiting for raises that are under way: each takes one system call.
pub(crate) fn pause(turn: u32) {
    if turn < 64 {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}
