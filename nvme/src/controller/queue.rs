//! One queue, as the controller sees it.

use super::shadow::{Buffers, Doorbell, Found};
use crate::command::{COMMAND_SIZE, COMPLETION_SIZE};
use vfio_irq_user::{Errno, Memory};

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
    /// Its doorbell in memory. While the queue is empty and not queued, the guest rings for the next
    /// command.
    doorbell: Option<Doorbell>,
}

impl Submission {
    pub(super) fn new(base: u64, entries: u32, completion: u16) -> Self {
        let (head, tail, queued, doorbell) = (0, 0, false, None);
        Self { base, entries, head, tail, completion, queued, doorbell }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Its doorbell in buffers of the guest's.
    pub(super) fn place_doorbell(
        &mut self,
        buffers: Buffers,
        memory: &Memory,
        id: u16,
    ) -> Result<Doorbell, Errno> {
        // What the old ones say is not told again.
        self.look(memory)?;
        // It is rung for the next command.
        buffers.doorbell(memory, 2 * u64::from(id), self.tail, self.tail)
    }

    /// From now on it has a doorbell in memory.
    pub(super) fn set_doorbell(&mut self, doorbell: Doorbell) {
        self.doorbell = Some(doorbell);
    }

    /// The guest has moved the tail; whether it can be there.
    fn set_tail(&mut self, tail: u32) -> bool {
        if tail < self.entries {
            self.tail = tail;
        }
        tail < self.entries
    }

    /// The guest has written the register.
    pub(super) fn hear(&mut self, memory: &Memory, rung: u32) -> Result<Found, Errno> {
        let tail = match &mut self.doorbell {
            Some(doorbell) => doorbell.look(memory, Some(rung))?,
            None => Some(rung),
        };
        Ok(self.found(tail))
    }

    /// Looks for commands. If there are none, the guest rings for the next.
    pub(super) fn look(&mut self, memory: &Memory) -> Result<Found, Errno> {
        if !self.is_empty() {
            return Ok(Found::Something);
        }
        let Some(doorbell) = &mut self.doorbell else { return Ok(Found::Nothing) };
        let tail = match doorbell.look(memory, None)? {
            None => doorbell.arm(memory, self.tail)?,
            tail => tail,
        };
        Ok(self.found(tail))
    }

    fn found(&mut self, tail: Option<u32>) -> Found {
        if !tail.is_none_or(|tail| self.set_tail(tail)) {
            return Found::Nonsense;
        }
        if self.is_empty() { Found::Nothing } else { Found::Something }
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
    /// Its doorbell in memory. The guest rings it when the queue was full.
    doorbell: Option<Doorbell>,
}

impl Completion {
    pub(super) fn new(base: u64, entries: u32, vector: Option<u32>) -> Self {
        let (head, tail, phase, owes) = (0, 0, true, false);
        let (users, doorbell) = (vec![], None);
        Self { base, entries, head, tail, phase, vector, users, owes, doorbell }
    }

    pub(super) fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// How many completions fit.
    pub(super) fn room(&self) -> u32 {
        (self.head + self.entries - self.tail - 1) % self.entries
    }

    /// What the guest passes last, going round from where it is: the controller looks at the head
    /// before that, as the queue is full then for all that it knows.
    fn last_event(&self) -> u32 {
        (self.head + self.entries - 1) % self.entries
    }

    /// Its doorbell in buffers of the guest's.
    pub(super) fn place_doorbell(
        &mut self,
        buffers: Buffers,
        memory: &Memory,
        id: u16,
    ) -> Result<Doorbell, Errno> {
        if let Some(doorbell) = &mut self.doorbell {
            let head = doorbell.look(memory, None)?;
            self.found(memory, head)?;
        }
        let event = if self.is_full() { self.head } else { self.last_event() };
        buffers.doorbell(memory, 2 * u64::from(id) + 1, self.head, event)
    }

    /// From now on it has a doorbell in memory.
    pub(super) fn set_doorbell(&mut self, doorbell: Doorbell) {
        self.doorbell = Some(doorbell);
    }

    /// The guest has moved the head; whether it can be there: it cannot overtake the tail.
    fn set_head(&mut self, head: u32) -> bool {
        let distance = |to: u32| (to + self.entries - self.head) % self.entries;
        let possible = head < self.entries && distance(head) <= distance(self.tail);
        if possible {
            self.head = head;
        }
        possible
    }

    /// The guest has written the register.
    pub(super) fn hear(&mut self, memory: &Memory, rung: u32) -> Result<Found, Errno> {
        let head = match &mut self.doorbell {
            Some(doorbell) => doorbell.look(memory, Some(rung))?,
            None => Some(rung),
        };
        self.found(memory, head)
    }

    /// Looks for room. If there is none, the guest rings when it makes some.
    pub(super) fn look(&mut self, memory: &Memory) -> Result<Found, Errno> {
        if !self.is_full() {
            return Ok(Found::Something);
        }
        let Some(doorbell) = &mut self.doorbell else { return Ok(Found::Nothing) };
        let head = match doorbell.look(memory, None)? {
            None => doorbell.arm(memory, self.head)?,
            head => head,
        };
        self.found(memory, head)
    }

    fn found(&mut self, memory: &Memory, head: Option<u32>) -> Result<Found, Errno> {
        if !head.is_none_or(|head| self.set_head(head)) {
            return Ok(Found::Nonsense);
        }
        if self.is_full() {
            return Ok(Found::Nothing);
        }
        let event = self.last_event();
        if let Some(doorbell) = &mut self.doorbell {
            doorbell.expect(memory, event)?;
        }
        Ok(Found::Something)
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
