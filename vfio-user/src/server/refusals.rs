//! Clients that are refused. The server replies to their VERSION with EBUSY. A closed socket alone
//! carries no reason, and QEMU exits on it.

use super::shared::Shared;
use crate::transport;
use crate::wire::{Decoder, Reply};
use rustix::event::epoll;
use rustix::net::RecvFlags;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use vfio_irq_engine::Errno;

/// The longest first command that is looked at.
const LONGEST: usize = 64 << 10;

struct Refused {
    key: u64,
    socket: OwnedFd,
    decoder: Decoder,
    until: Instant,
}

/// Clients that have not sent their first command yet, the one first that came first.
#[derive(Default)]
pub(super) struct Refusals {
    waiting: VecDeque<Refused>,
    next_key: u64,
}

impl Refusals {
    /// Sockets that are kept open to be refused. More of them, and the oldest is closed.
    const MOST: usize = 64;

    /// Marks the keys of refused clients among what epoll tells.
    pub(super) const KEY: u64 = 1 << 62;

    /// Refuses a client: at once if its first command is there, or when that comes.
    pub(super) fn refuse(&mut self, shared: &Shared, socket: OwnedFd) {
        let key = Self::KEY | self.next_key;
        self.next_key = (self.next_key + 1) % (1 << 32);
        let until = transport::after(shared.options.handshake);
        let mut refused = Refused { key, socket, decoder: Decoder::new(LONGEST), until };
        if refused.is_answered() {
            return;
        }
        if self.waiting.len() >= Self::MOST {
            self.waiting.pop_front();
        }
        let data = epoll::EventData::new_u64(key);
        // A socket that cannot be waited for is closed without an answer.
        if epoll::add(&shared.epoll, &refused.socket, data, epoll::EventFlags::IN).is_ok() {
            self.waiting.push_back(refused);
        }
    }

    /// A client has sent something, or has gone.
    pub(super) fn look(&mut self, key: u64) {
        let place = self.waiting.iter().position(|refused| refused.key == key);
        let Some(place) = place else { return };
        if self.waiting.get_mut(place).is_some_and(Refused::is_answered) {
            self.waiting.remove(place);
        }
    }

    /// Closes the sockets of clients that said nothing in time. Returns when the next one is due.
    pub(super) fn expire(&mut self) -> Option<Duration> {
        let now = Instant::now();
        while self.waiting.pop_front_if(|refused| refused.until <= now).is_some() {}
        self.waiting.front().map(|refused| refused.until - now)
    }
}

impl Refused {
    /// Answers the first command if it is there. Returns false while it has to be waited for.
    fn is_answered(&mut self) -> bool {
        loop {
            match self.decoder.next(&mut Vec::new()) {
                Err(_) => return true,
                Ok(Some(frame)) => {
                    let header = frame.packet.header();
                    if header.is_command() && header.wants_reply() {
                        self.answer(&header);
                    }
                    return true;
                }
                Ok(None) => {}
            }
            match transport::receive(self.socket.as_fd(), &mut self.decoder, RecvFlags::DONTWAIT) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(_) => return true,
            }
        }
    }

    fn answer(&self, header: &crate::wire::Header) {
        let mut reply = Reply::default();
        reply.refuse(header, Errno::EBUSY);
        let socket = self.socket.as_fd();
        // It is the first thing that is sent, so there is room for it.
        let _ = transport::send(socket, reply.bytes(), reply.fds(), Duration::ZERO, None);
    }
}
