//! Refuses clients. The server replies to their VERSION with EBUSY. A closed socket alone
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

/// The limit of the first command in bytes.
const LONGEST: usize = 64 << 10;

struct Refused {
    key: u64,
    socket: OwnedFd,
    decoder: Decoder,
    until: Instant,
}

/// Refused clients that have not sent their first command yet, the oldest first.
#[derive(Default)]
pub(super) struct Refusals {
    waiting: VecDeque<Refused>,
    next_key: u64,
}

impl Refusals {
    /// The limit of open sockets. Beyond it, the oldest is closed without a reply.
    const MOST: usize = 64;

    /// The bit that marks the epoll keys of refused clients.
    pub(super) const KEY: u64 = 1 << 62;

    /// Refuses a client: now if its first command has arrived, otherwise on arrival.
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
        // If epoll does not take the socket, it is closed without a reply.
        if epoll::add(&shared.epoll, &refused.socket, data, epoll::EventFlags::IN).is_ok() {
            self.waiting.push_back(refused);
        }
    }

    /// Handles an event of a refused client: its bytes, or its end.
    pub(super) fn handle(&mut self, key: u64) {
        let place = self.waiting.iter().position(|refused| refused.key == key);
        let Some(place) = place else { return };
        if self.waiting.get_mut(place).is_some_and(Refused::is_answered) {
            self.waiting.remove(place);
        }
    }

    /// Closes the sockets of clients that sent nothing in time. Returns the time left of the next.
    pub(super) fn expire(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let expired = self.waiting.iter().take_while(|refused| refused.until <= now).count();
        self.waiting.drain(..expired);
        self.waiting.front().map(|refused| refused.until - now)
    }
}

impl Refused {
    /// Refuses the first command if it has arrived. Returns false if it has not.
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
        // It is the first message of the server, so the socket buffer has room for it.
        let _ = transport::send(socket, reply.bytes(), reply.fds(), Duration::ZERO, None);
    }
}
