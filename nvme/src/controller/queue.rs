//! One queue, as the controller sees it.

use super::shadow_doorbells::{Buffers, Doorbell, Found};
use crate::command::{COMMAND_SIZE, COMPLETION_SIZE};
use vfio_irq_user::{Errno, Memory};

/// Where a queue stands among those that have commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// Nobody has asked for one, or it may have another.
    Idle,
    /// It waits for it.
    Waits,
    /// It has one, and no other one meanwhile.
    Has {
        /// Somebody has asked for another.
        again: bool,
    },
}

/// Commands of the guest's.
#[derive(Debug)]
pub(super) struct Submission {
    base: u64,
    entries: u32,
    head: u32,
    tail: u32,
    /// Where its completions go.
    pub(super) completion: u16,
    turn: Turn,
    /// Commands that were fetched and have not ended.
    open: u32,
    /// It goes when they have ended, which is the end of this admin command.
    leaving: Option<u16>,
    /// Its doorbell in memory. While the queue is empty and not queued, the guest rings for the next
    /// command.
    doorbell: Option<Doorbell>,
}

impl Submission {
    pub(super) fn new(base: u64, entries: u32, completion: u16) -> Self {
        let (head, tail, turn, open) = (0, 0, Turn::Idle, 0);
        let (leaving, doorbell) = (None, None);
        Self { base, entries, head, tail, completion, turn, open, leaving, doorbell }
    }

    /// Asks for a turn; whether it is to be put among those that wait.
    pub(super) fn ask(&mut self) -> bool {
        let wait = self.turn == Turn::Idle;
        self.turn = match self.turn {
            Turn::Idle | Turn::Waits => Turn::Waits,
            Turn::Has { .. } => Turn::Has { again: true },
        };
        wait
    }

    /// Its turn begins. `alone`: whoever asks for one meanwhile has it later.
    pub(super) fn begin_turn(&mut self, alone: bool) {
        self.turn = if alone { Turn::Has { again: false } } else { Turn::Idle };
    }

    /// A turn is over; whether somebody has asked for another that was alone.
    pub(super) fn end_turn(&mut self) -> bool {
        let Turn::Has { again } = self.turn else { return false };
        self.turn = Turn::Idle;
        again
    }

    /// Whether it is about to go.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// It is to go; whether it can at once. If not, `command` ends when it has.
    pub(super) fn leave(&mut self, command: u16) -> bool {
        if self.open > 0 {
            self.leaving = Some(command);
        }
        self.open == 0
    }

    /// A command has ended. If it was the last one of a queue that is to go, what ends with it.
    pub(super) fn ended(&mut self) -> Option<u16> {
        self.open = self.open.saturating_sub(1);
        self.leaving.filter(|_| self.open == 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Its doorbell is in buffers of the guest's from now on; it is rung for the next command.
    pub(super) fn move_doorbell(
        &mut self,
        buffers: Buffers,
        memory: &Memory,
        id: u16,
    ) -> Result<(), Errno> {
        // The guest may use the old buffers until it knows of the new ones: it rings for that.
        for _ in 0..self.entries {
            let Some(doorbell) = &mut self.doorbell else { break };
            let tail = doorbell.arm(memory, self.tail)?;
            if tail.is_none() || self.found(tail) == Found::Nonsense {
                break;
            }
        }
        let new =
            buffers.doorbell(memory, 2 * u64::from(id), self.entries, self.tail, self.tail)?;
        self.doorbell = Some(new.follow(self.doorbell.as_ref()));
        Ok(())
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
        let tail = doorbell.look(memory, None)?;
        let found = self.found(tail);
        if found != Found::Nothing {
            return Ok(found);
        }
        let Some(doorbell) = &mut self.doorbell else { return Ok(Found::Nothing) };
        let tail = doorbell.arm(memory, self.tail)?;
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
        self.open += 1;
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
    /// Places that are kept for commands under way.
    reserved: u32,
    /// A command waits for a place.
    waiting: bool,
    /// What is raised, if the guest wants interrupts.
    vector: Option<u32>,
    /// The queues whose completions come here.
    pub(super) users: Vec<u16>,
    /// Something was posted and not signalled yet.
    owes: bool,
    /// Its doorbell in memory. The guest rings it when the queue was full.
    doorbell: Option<Doorbell>,
}

impl Completion {
    pub(super) fn new(base: u64, entries: u32, vector: Option<u32>) -> Self {
        let (head, tail, phase, owes) = (0, 0, true, false);
        let (reserved, waiting) = (0, false);
        let (users, doorbell) = (vec![], None);
        Self { base, entries, head, tail, phase, reserved, waiting, vector, users, owes, doorbell }
    }

    /// Whether every place is taken or kept.
    fn is_full(&self) -> bool {
        (self.head + self.entries - self.tail - 1) % self.entries <= self.reserved
    }

    /// Keeps a place for a command, if there is one. If there is not, the command waits.
    pub(super) fn reserve(&mut self, memory: &Memory) -> Result<Found, Errno> {
        let found = self.look(memory)?;
        if found == Found::Something {
            self.reserved += 1;
        } else {
            self.waiting = true;
        }
        Ok(found)
    }

    /// Gives a place back; whether a command waits for it.
    pub(super) fn release(&mut self) -> bool {
        self.reserved = self.reserved.saturating_sub(1);
        std::mem::take(&mut self.waiting)
    }

    /// The queues of commands that wait for a place, now that there is one.
    pub(super) fn waiting_users(&mut self) -> Vec<u16> {
        if !self.waiting || self.is_full() {
            return Vec::new();
        }
        self.waiting = false;
        self.users.clone()
    }

    /// What is to be raised.
    pub(super) fn owed(&mut self) -> Option<u32> {
        std::mem::take(&mut self.owes).then_some(self.vector).flatten()
    }

    /// What the guest passes last, going round from where it is: the controller looks at the head
    /// before that, as the queue is full then for all that it knows.
    fn last_event(&self) -> u32 {
        (self.head + self.entries - 1) % self.entries
    }

    /// Its doorbell is in buffers of the guest's from now on; it is rung when room is wanted.
    pub(super) fn move_doorbell(
        &mut self,
        buffers: Buffers,
        memory: &Memory,
        id: u16,
    ) -> Result<(), Errno> {
        for _ in 0..self.entries {
            let Some(doorbell) = &mut self.doorbell else { break };
            let head = doorbell.arm(memory, self.head)?;
            if !head.is_some_and(|head| self.set_head(head)) {
                break;
            }
        }
        let event = if self.waiting { self.head } else { self.last_event() };
        let place = 2 * u64::from(id) + 1;
        let new = buffers.doorbell(memory, place, self.entries, self.head, event)?;
        self.doorbell = Some(new.follow(self.doorbell.as_ref()));
        Ok(())
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
    fn look(&mut self, memory: &Memory) -> Result<Found, Errno> {
        // Each time round the head has moved on, so this ends.
        while self.is_full() {
            let Some(doorbell) = &mut self.doorbell else { return Ok(Found::Nothing) };
            let head = match doorbell.look(memory, None)? {
                None => doorbell.arm(memory, self.head)?,
                head => head,
            };
            if head.is_none() {
                return Ok(Found::Nothing);
            }
            let found = self.found(memory, head)?;
            if found == Found::Nonsense {
                return Ok(found);
            }
        }
        Ok(Found::Something)
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

    /// Where the next completion goes, and its phase. It was kept for a command, and counts as used.
    pub(super) fn place(&mut self) -> (u64, bool) {
        let at = (self.base.saturating_add(u64::from(self.tail) * COMPLETION_SIZE), self.phase);
        self.tail = (self.tail + 1) % self.entries;
        self.phase ^= self.tail == 0;
        self.reserved = self.reserved.saturating_sub(1);
        self.owes = true;
        at
    }
}
