//! The epoll set of the eventfds that user space reads.

use crate::{Error, Trigger};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Maximum number of events of one `epoll_wait`. The next call returns the others.
const AT_ONCE: usize = 64;

#[derive(Debug)]
pub(super) struct Epoll(OwnedFd);

impl Epoll {
    pub(super) fn new() -> Result<Self, Error> {
        let fd = epoll::create(CreateFlags::CLOEXEC);
        Ok(Self(fd.map_err(|source| Error::descriptor("an epoll cannot be had", source))?))
    }

    pub(super) fn add(&self, trigger: &Trigger, number: u32) -> Result<(), Error> {
        let data = EventData::new_u64(number.into());
        epoll::add(&self.0, trigger, data, EventFlags::IN)
            .map_err(|source| Error::descriptor("an eventfd cannot be waited for", source))
    }

    pub(super) fn remove(&self, trigger: &Trigger) -> Result<(), Error> {
        epoll::delete(&self.0, trigger)
            .map_err(|source| Error::descriptor("an eventfd cannot be left alone", source))
    }

    /// Returns the vectors whose eventfds are signalled. Does not block.
    pub(super) fn ready(&self) -> Result<Vec<u32>, Error> {
        let mut events = Vec::with_capacity(AT_ONCE);
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.0, spare_capacity(&mut events), Some(&now))
            .map_err(|source| Error::descriptor("eventfds cannot be waited for", source))?;
        let number = |event: epoll::Event| u32::try_from(event.data.u64()).ok();
        Ok(events.into_iter().filter_map(number).collect())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
