//! The outstanding commands of the server (DMA_READ, DMA_WRITE).

use super::reader::Message;
use crate::errno;
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

enum Answer {
    Awaited,
    Arrived(Message),
    /// The thread no longer waits. The reply is dropped on arrival.
    Abandoned,
}

struct Question {
    id: u16,
    window: Arc<Window>,
    answer: Answer,
}

/// The reason why a command was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unasked {
    /// The error for the calling thread.
    Refused(Errno),
    /// The client owes more replies than a useful client would.
    TooMany,
}

/// The commands that the client has not answered.
#[derive(Default)]
pub(super) struct Questions {
    open: Vec<Question>,
    next_id: u16,
    /// How many quiesces are in force.
    quiesced: usize,
}

impl Questions {
    /// The limit of outstanding replies. Each thread of a device waits for one reply; the others
    /// were abandoned.
    const MOST: usize = 1024;

    /// Records a command that is about to be sent. Returns its message ID.
    pub(super) fn ask(&mut self, window: &Arc<Window>) -> Result<u16, Unasked> {
        if let Some(errno) = self.refusal(window) {
            return Err(Unasked::Refused(errno));
        }
        if self.open.len() >= Self::MOST {
            return Err(Unasked::TooMany);
        }
        while self.open.iter().any(|question| question.id == self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.open.push(Question { id, window: Arc::clone(window), answer: Answer::Awaited });
        Ok(id)
    }

    fn refusal(&self, window: &Window) -> Option<Errno> {
        if window.is_unmapped() {
            Some(Errno::EFAULT)
        } else if self.quiesced > 0 {
            Some(errno::ECANCELED)
        } else {
            None
        }
    }

    /// Keeps a reply for the thread that waits for it. Returns false if no command has this ID.
    pub(super) fn deliver(&mut self, id: u16, message: Message) -> bool {
        let Some(place) = self.open.iter().position(|question| question.id == id) else {
            return false;
        };
        match self.open.get_mut(place).map(|question| &mut question.answer) {
            Some(answer @ Answer::Awaited) => *answer = Answer::Arrived(message),
            Some(Answer::Abandoned) => _ = self.open.swap_remove(place),
            Some(Answer::Arrived(_)) | None => return false,
        }
        true
    }

    /// Takes the reply to a command, or the errno if it was abandoned. Returns `None` while the
    /// reply is outstanding.
    pub(super) fn take(&mut self, id: u16) -> Option<Result<Message, Errno>> {
        let place = self.open.iter().position(|question| question.id == id)?;
        match self.open.get(place)?.answer {
            Answer::Awaited => None,
            Answer::Abandoned => {
                let unmapped = self.open.get(place)?.window.is_unmapped();
                Some(Err(if unmapped { Errno::EFAULT } else { errno::ECANCELED }))
            }
            Answer::Arrived(_) => match self.open.swap_remove(place).answer {
                Answer::Arrived(message) => Some(Ok(message)),
                Answer::Awaited | Answer::Abandoned => None,
            },
        }
    }

    /// Abandons the commands about a window. Returns true if a thread must be woken.
    pub(super) fn abandon(&mut self, window: &Window) -> bool {
        self.abandon_where(|of| std::ptr::eq(of, window))
    }

    /// Abandons all commands, and refuses new ones until [`Questions::resume`]. Returns true if a
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
        for question in self.open.iter_mut().filter(|question| chosen(&question.window)) {
            // A reply that has arrived is kept: its thread will take it.
            if matches!(question.answer, Answer::Awaited) {
                question.answer = Answer::Abandoned;
                any = true;
            }
        }
        any
    }
}
