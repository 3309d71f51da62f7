//! The queues, as the controller sees them.

use super::shadow_doorbells::{Buffers, Doorbell, Found};
use vfio_irq_nvme_spec::{COMMAND_SIZE, COMPLETION_SIZE};
use vfio_irq_user::{Errno, Memory};

/// A submission queue.
#[derive(Debug)]
pub(crate) struct Submission {
    base: u64,
    entries: u32,
    head: u32,
    tail: u32,
    /// The ID of its completion queue.
    pub(crate) completion: u16,
    /// The queue waits for service.
    pub(crate) is_enqueued: bool,
    /// The shadow doorbell. While the queue is empty and not queued, the event index asks for the
    /// next command.
    doorbell: Option<Doorbell>,
}

impl Submission {
    pub(crate) fn new(base: u64, entries: u32, completion: u16) -> Self {
        let (head, tail, is_enqueued, doorbell) = (0, 0, false, None);
        Self { base, entries, head, tail, completion, is_enqueued, doorbell }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Switches to the shadow doorbell. The event index asks for the next command.
    pub(crate) fn move_doorbell(
        &mut self,
        buffers: Buffers,
        memory: &Memory,
        id: u16,
    ) -> Result<(), Errno> {
        // The guest may use the old buffers until this command completes. The event index makes it
        // write the register.
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

    /// Takes a new tail. Returns false if the tail is out of range.
    fn set_tail(&mut self, tail: u32) -> bool {
        if tail < self.entries {
            self.tail = tail;
        }
        tail < self.entries
    }

    /// The guest has written the register.
    pub(crate) fn hear(&mut self, memory: &Memory, rung: u32) -> Result<Found, Errno> {
        let tail = match &mut self.doorbell {
            Some(doorbell) => doorbell.look(memory, Some(rung))?,
            None => Some(rung),
        };
        Ok(self.found(tail))
    }

    /// Looks for commands. If there are none, arms the doorbell.
    pub(crate) fn look(&mut self, memory: &Memory) -> Result<Found, Errno> {
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

    /// Returns the address of the next command, and advances the head.
    pub(crate) fn take(&mut self) -> u64 {
        let address = self.base.saturating_add(u64::from(self.head) * COMMAND_SIZE);
        self.head = (self.head + 1) % self.entries;
        address
    }

    /// Returns the head, as completions report it.
    pub(crate) fn head(&self) -> u16 {
        vfio_irq_nvme_spec::low(self.head)
    }
}

/// A completion queue.
#[derive(Debug)]
pub(crate) struct Completion {
    base: u64,
    entries: u32,
    head: u32,
    tail: u32,
    phase: bool,
    /// Entries that are reserved for outstanding commands.
    reserved: u32,
    /// A command waits for an entry.
    waiting: bool,
    /// The vector, if the guest wants interrupts.
    vector: Option<u32>,
    /// The submission queues that complete here.
    pub(crate) users: Vec<u16>,
    /// A completion was posted and not signalled.
    owes: bool,
    /// The shadow doorbell. The event index asks for it if the queue was full.
    doorbell: Option<Doorbell>,
}

impl Completion {
    pub(crate) fn new(base: u64, entries: u32, vector: Option<u32>) -> Self {
        let (head, tail, phase, owes) = (0, 0, true, false);
        let (reserved, waiting) = (0, false);
        let (users, doorbell) = (vec![], None);
        Self { base, entries, head, tail, phase, reserved, waiting, vector, users, owes, doorbell }
    }

    /// Returns true if no entry is free.
    fn is_full(&self) -> bool {
        (self.head + self.entries - self.tail - 1) % self.entries <= self.reserved
    }

    /// Reserves an entry for a command. If there is none, the command waits.
    pub(crate) fn reserve(&mut self, memory: &Memory) -> Result<Found, Errno> {
        let found = self.look(memory)?;
        if found == Found::Something {
            self.reserved += 1;
        } else {
            self.waiting = true;
        }
        Ok(found)
    }

    /// Releases a reserved entry. Returns true if a command waits for one.
    pub(crate) fn release(&mut self) -> bool {
        self.reserved = self.reserved.saturating_sub(1);
        std::mem::take(&mut self.waiting)
    }

    /// Returns the submission queues that wait for an entry, if there is one now.
    pub(crate) fn waiting_users(&mut self) -> Vec<u16> {
        if !self.waiting || self.is_full() {
            return Vec::new();
        }
        self.waiting = false;
        self.users.clone()
    }

    /// Returns the vector if there are new completions, once.
    pub(crate) fn owed(&mut self) -> Option<u32> {
        std::mem::take(&mut self.owes).then_some(self.vector).flatten()
    }

    /// Returns the event index that the guest passes last, going round from its head. The
    /// controller reads the head before that, because it then takes the queue for full.
    fn last_event(&self) -> u32 {
        (self.head + self.entries - 1) % self.entries
    }

    /// Switches to the shadow doorbell. The event index asks for it when room is needed.
    pub(crate) fn move_doorbell(
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

    /// Takes a new head. Returns false if the head would pass the tail.
    fn set_head(&mut self, head: u32) -> bool {
        let distance = |to: u32| (to + self.entries - self.head) % self.entries;
        let possible = head < self.entries && distance(head) <= distance(self.tail);
        if possible {
            self.head = head;
        }
        possible
    }

    /// The guest has written the register.
    pub(crate) fn hear(&mut self, memory: &Memory, rung: u32) -> Result<Found, Errno> {
        let head = match &mut self.doorbell {
            Some(doorbell) => doorbell.look(memory, Some(rung))?,
            None => Some(rung),
        };
        self.found(memory, head)
    }

    /// Looks for free entries. If there are none, arms the doorbell.
    fn look(&mut self, memory: &Memory) -> Result<Found, Errno> {
        // The head moves on in each iteration, so the loop ends.
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

    /// Returns the address and phase of the next completion, for which an entry was reserved.
    pub(crate) fn place(&mut self) -> (u64, bool) {
        let at = (self.base.saturating_add(u64::from(self.tail) * COMPLETION_SIZE), self.phase);
        self.tail = (self.tail + 1) % self.entries;
        self.phase ^= self.tail == 0;
        self.reserved = self.reserved.saturating_sub(1);
        self.owes = true;
        at
    }
}
