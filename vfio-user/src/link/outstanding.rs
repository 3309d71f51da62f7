//! The outstanding commands of the server (DMA_READ, DMA_WRITE).
//!
//! ```text
//! begin ──> Awaited ──deliver──> Arrived ──take──> gone
//!              └────abandon────> Abandoned ──deliver──> gone
//! ```
//!
//! An abandoned command keeps its message ID until its reply arrives. So a late reply cannot be taken
//! for the reply to a later command.

use super::reader::Message;
use crate::errno;
use crate::transport::ConnectionError;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vfio_irq_engine::Errno;

/// Memory that the client serves by messages, between its DMA_MAP and DMA_UNMAP.
#[derive(Debug, Default)]
pub(crate) struct Window {
    unmapped: AtomicBool,
}

impl Window {
    /// Refuses new commands about this window. Call [`super::Link::abandon`] next, which ends
    /// outstanding commands.
    pub(crate) fn unmap(&self) {
        self.unmapped.store(true, Ordering::Release);
    }

    fn is_unmapped(&self) -> bool {
        self.unmapped.load(Ordering::Acquire)
    }
}

/// The reason why a command of the server failed.
pub(super) enum Failure {
    /// The connection continues.
    Errno(Errno),
    /// The connection has ended, or must end.
    Broken(ConnectionError),
}

impl From<ConnectionError> for Failure {
    fn from(why: ConnectionError) -> Self {
        Self::Broken(why)
    }
}

enum State {
    Awaited,
    Arrived(Message),
    /// The thread no longer waits. The reply is dropped on arrival.
    Abandoned,
}

/// The commands that the client has not answered, by message ID.
#[derive(Default)]
pub(super) struct Outstanding {
    commands: BTreeMap<u16, (Arc<Window>, State)>,
    next_id: u16,
    /// How many quiesces are in force.
    quiesced: usize,
}

impl Outstanding {
    /// The limit of outstanding replies. Each thread of a device waits for one reply; the others
    /// were abandoned. A client that owes more is not useful.
    const MOST: usize = 1024;

    /// Records a command that is about to be sent. Returns its message ID.
    pub(super) fn begin(&mut self, window: &Arc<Window>) -> Result<u16, Failure> {
        if window.is_unmapped() {
            return Err(Failure::Errno(Errno::EFAULT));
        }
        if self.quiesced > 0 {
            return Err(Failure::Errno(errno::ECANCELED));
        }
        if self.commands.len() >= Self::MOST {
            return Err(ConnectionError::ReplyTimeout.into());
        }
        while self.commands.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.commands.insert(id, (Arc::clone(window), State::Awaited));
        Ok(id)
    }

    /// Keeps a reply for the thread that waits for it. Returns false if no command has this ID.
    pub(super) fn deliver(&mut self, id: u16, message: Message) -> bool {
        match self.commands.get_mut(&id) {
            Some((_, state @ State::Awaited)) => *state = State::Arrived(message),
            Some((_, State::Abandoned)) => _ = self.commands.remove(&id),
            Some((_, State::Arrived(_))) | None => return false,
        }
        true
    }

    /// Takes the reply to a command, or the errno if it was abandoned. Returns `None` while the
    /// reply is outstanding.
    pub(super) fn take(&mut self, id: u16) -> Option<Result<Message, Errno>> {
        match self.commands.get(&id)? {
            (_, State::Awaited) => None,
            (window, State::Abandoned) => {
                let unmapped = window.is_unmapped();
                Some(Err(if unmapped { Errno::EFAULT } else { errno::ECANCELED }))
            }
            (_, State::Arrived(_)) => match self.commands.remove(&id) {
                Some((_, State::Arrived(message))) => Some(Ok(message)),
                _ => None,
            },
        }
    }

    /// Abandons the commands about a window. Returns true if a thread must be woken.
    pub(super) fn abandon(&mut self, window: &Window) -> bool {
        self.abandon_where(|of| std::ptr::eq(of, window))
    }

    /// Abandons all commands, and refuses new ones until [`Outstanding::resume`]. Returns true if a
    /// thread must be woken.
    pub(super) fn quiesce(&mut self) -> bool {
        self.quiesced += 1;
        self.abandon_where(|_| true)
    }

    pub(super) fn resume(&mut self) {
        self.quiesced = self.quiesced.saturating_sub(1);
    }

    fn abandon_where(&mut self, chosen: impl Fn(&Window) -> bool) -> bool {
        let mut any = false;
        for (_, state) in self.commands.values_mut().filter(|(window, _)| chosen(window)) {
            // A reply that has arrived is kept: its thread will take it.
            if matches!(state, State::Awaited) {
                *state = State::Abandoned;
                any = true;
            }
        }
        any
    }
}
