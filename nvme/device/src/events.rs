//! Asynchronous events, and the requests for them.

use std::collections::VecDeque;

/// The limit of outstanding requests.
pub(crate) const MOST_REQUESTS: usize = 4;

/// An error of a doorbell write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The queue does not exist.
    NoQueue,
    /// The value is out of range.
    Value,
}

impl Event {
    /// Returns the first word of the completion: the type (error), the event, and the log page to
    /// read.
    fn word(self) -> u32 {
        let what = match self {
            Self::NoQueue => 0,
            Self::Value => 1,
        };
        what << 8 | 0x01 << 16
    }
}

/// Outstanding requests and pending events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    requests: VecDeque<u16>,
    waiting: Option<Event>,
    /// An event was reported; the next follows after the guest has read the log page.
    told: bool,
}

impl Events {
    /// Adds a request. Returns false if the limit is reached.
    pub(crate) fn request(&mut self, command: u16) -> bool {
        let room = self.requests.len() < MOST_REQUESTS;
        if room {
            self.requests.push_back(command);
        }
        room
    }

    /// Removes an aborted request.
    pub(crate) fn abort(&mut self, command: u16) -> bool {
        let place = self.requests.iter().position(|request| *request == command);
        place.and_then(|place| self.requests.remove(place)).is_some()
    }

    /// Records an event. Only the latest unreported event is kept.
    pub(crate) fn happen(&mut self, event: Event) {
        self.waiting = Some(event);
    }

    /// Allows the next report, because the guest has read the error log.
    pub(crate) fn rearm(&mut self) {
        self.told = false;
    }

    /// Returns true if a request can complete now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.told && self.waiting.is_some() && !self.requests.is_empty()
    }

    /// Returns the request to complete, and its first word.
    pub(crate) fn next(&mut self) -> Option<(u16, u32)> {
        if !self.is_ready() {
            return None;
        }
        let command = self.requests.pop_front()?;
        self.told = true;
        self.waiting.take().map(|event| (command, event.word()))
    }
}
