//! Asynchronous events: what the controller tells a guest that has asked to be told.

use std::collections::VecDeque;

/// Requests that may be outstanding.
pub(super) const MOST_REQUESTS: usize = 4;

/// What can be wrong with a doorbell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// There is no such queue.
    NoQueue,
    /// A queue cannot be filled, or emptied, to there.
    Value,
}

impl Event {
    /// The first word of its completion: the type (an error), what it is, and the log to read.
    fn word(self) -> u32 {
        let what = match self {
            Self::NoQueue => 0,
            Self::Value => 1,
        };
        what << 8 | 0x01 << 16
    }
}

/// Requests and events that wait for one another.
#[derive(Debug, Default)]
pub(super) struct Events {
    requests: VecDeque<u16>,
    waiting: Option<Event>,
    /// One was told: no more until its log was read.
    told: bool,
}

impl Events {
    /// The guest asks to be told; `false` when it has asked often enough.
    pub(super) fn request(&mut self, command: u16) -> bool {
        let room = self.requests.len() < MOST_REQUESTS;
        if room {
            self.requests.push_back(command);
        }
        room
    }

    /// Takes a request back.
    pub(super) fn abort(&mut self, command: u16) -> bool {
        let place = self.requests.iter().position(|request| *request == command);
        place.and_then(|place| self.requests.remove(place)).is_some()
    }

    /// Something happened. Of what the guest was not told yet, the latest is kept.
    pub(super) fn happen(&mut self, event: Event) {
        self.waiting = Some(event);
    }

    /// The log of errors was read.
    pub(super) fn rearm(&mut self) {
        self.told = false;
    }

    /// Whether a request is to be completed now.
    pub(super) fn is_ready(&self) -> bool {
        !self.told && self.waiting.is_some() && !self.requests.is_empty()
    }

    /// The request to complete now, and with what.
    pub(super) fn next(&mut self) -> Option<(u16, u32)> {
        if !self.is_ready() {
            return None;
        }
        let command = self.requests.pop_front()?;
        self.told = true;
        self.waiting.take().map(|event| (command, event.word()))
    }
}
