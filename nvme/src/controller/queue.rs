//! One queue, as the controller sees it.

use crate::command::{COMMAND_SIZE, COMPLETION_SIZE};

/// Commands of the guest's.
#[derive(Debug)]
pub(super) struct Submission {
    base: u64,
    entries: u32,
    head: u32,
    tail: u32,
    /// Where its completions go.
    pub(super) completion: u16,
    /// It waits for its turn.
    pub(super) queued: bool,
}

impl Submission {
    pub(super) fn new(base: u64, entries: u32, completion: u16) -> Self {
        Self { base, entries, head: 0, tail: 0, completion, queued: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// The guest has moved the tail; whether it can be there.
    pub(super) fn set_tail(&mut self, tail: u32) -> bool {
        if tail < self.entries {
            self.tail = tail;
        }
        tail < self.entries
    }

    /// Where the next command is; it counts as taken.
    pub(super) fn take(&mut self) -> u64 {
        let address = self.base.saturating_add(u64::from(self.head) * COMMAND_SIZE);
        self.head = (self.head + 1) % self.entries;
        address
    }

    /// The head, as completions tell it.
    pub(super) fn head(&self) -> u16 {
        crate::command::low(self.head)
    }
}

/// Completions for the guest.
#[derive(Debug)]
pub(super) struct Completion {
    base: u64,
    entries: u32,
    head: u32,
    tail: u32,
    phase: bool,
    /// What is raised, if the guest wants interrupts.
    pub(super) vector: Option<u32>,
    /// The queues whose completions come here.
    pub(super) users: Vec<u16>,
    /// Something was posted and not signalled yet.
    pub(super) owes: bool,
}

impl Completion {
    pub(super) fn new(base: u64, entries: u32, vector: Option<u32>) -> Self {
        Self { base, entries, head: 0, tail: 0, phase: true, vector, users: vec![], owes: false }
    }

    pub(super) fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// How many completions fit.
    pub(super) fn room(&self) -> u32 {
        (self.head + self.entries - self.tail - 1) % self.entries
    }

    /// The guest has moved the head; whether it can be there: it cannot overtake the tail.
    pub(super) fn set_head(&mut self, head: u32) -> bool {
        let distance = |to: u32| (to + self.entries - self.head) % self.entries;
        let possible = head < self.entries && distance(head) <= distance(self.tail);
        if possible {
            self.head = head;
        }
        possible
    }

    /// Where the next completion goes, and its phase; the place counts as used.
    pub(super) fn place(&mut self) -> (u64, bool) {
        let at = (self.base.saturating_add(u64::from(self.tail) * COMPLETION_SIZE), self.phase);
        self.tail = (self.tail + 1) % self.entries;
        self.phase ^= self.tail == 0;
        self.owes = true;
        at
    }
}
