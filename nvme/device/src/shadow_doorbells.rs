//! Shadow doorbells (Doorbell Buffer Config): doorbells in guest memory.
//!
//! The guest writes the doorbell to the shadow buffer. It writes the register only if the value
//! passes the event index, which the controller writes to a second buffer. So the guest does not
//! interrupt a busy controller, and an idle controller asks for the next write.
//!
//! Each side writes its own word, executes a full barrier, and reads the word of the other. The
//! later of the two sees the write of the other, so no doorbell is missed.

use std::sync::atomic::{Ordering, fence};
use vfio_irq_user::{Errno, Memory};

/// The two buffers. Their layout is that of the registers: the tail of submission queue n at word
/// 2n, the head of completion queue n at word 2n + 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Buffers {
    doorbells: u64,
    events: u64,
}

impl Buffers {
    /// Takes the addresses of the buffers. Returns `None` unless both are mapped and aligned pages
    /// of this size.
    pub(crate) fn new(memory: &Memory, page: u32, doorbells: u64, events: u64) -> Option<Self> {
        let len = usize::try_from(page).ok()?;
        let there =
            |address: u64| address.is_multiple_of(page.into()) && memory.covers(address, len);
        (doorbells != events && there(doorbells) && there(events))
            .then_some(Self { doorbells, events })
    }

    /// Returns the doorbell with this number, of a queue with `entries` entries. The doorbell
    /// starts at `value`; the guest writes the register when it passes `event`. Returns EFAULT if
    /// the buffers cannot be written.
    pub(crate) fn doorbell(
        self,
        memory: &Memory,
        place: u64,
        entries: u32,
        value: u32,
        event: u32,
    ) -> Result<Doorbell, Errno> {
        let at = |base: u64| base.checked_add(4 * place).ok_or(Errno::EFAULT);
        let (address, event_address) = (at(self.doorbells)?, at(self.events)?);
        memory.store(event_address, event.to_le())?;
        memory.store(address, value.to_le())?;
        let (seen, at, ahead, event) = (value, value, 0, Some(event));
        Ok(Doorbell { address, event_address, entries, seen, at, ahead, event })
    }
}

/// One doorbell, in memory and in its register.
///
/// A guest writes the memory, and then perhaps the register. The controller may see the memory
/// first and the register later. So a register value may be one that the doorbell has already
/// passed. Going back to it would carry out commands twice.
///
/// A guest may also write the register alone: Linux does so for the admin queue. So the controller
/// takes a register value unless the doorbell may have passed it since the last register write. If
/// the doorbell has gone round the whole queue in between, it has passed every value, and no
/// register value counts.
#[derive(Debug)]
pub(crate) struct Doorbell {
    address: u64,
    event_address: u64,
    entries: u32,
    /// The last value seen in memory.
    seen: u32,
    /// The current value of the doorbell.
    at: u32,
    /// How far `at` is ahead of the last register write, at most, including whole rounds.
    ahead: u64,
    /// The event index, if it was written.
    event: Option<u32>,
}

impl Doorbell {
    /// Reads the doorbell in memory. Returns the value if it is new, even if it is out of range.
    /// `rung` is the register value, if the guest wrote the register. Returns EFAULT if the memory
    /// cannot be read.
    pub(crate) fn look(
        &mut self,
        memory: &Memory,
        rung: Option<u32>,
    ) -> Result<Option<u32>, Errno> {
        // The register was read before the memory, so this load sees what the guest wrote to memory
        // first.
        let now = u32::from_le(memory.load(self.address)?);
        let mut value = None;
        if now != self.seen {
            self.seen = now;
            value = Some(now);
            if now < self.entries {
                self.ahead = self.ahead.saturating_add(self.way(self.at, now));
                self.at = now;
            }
        }
        Ok(rung.and_then(|rung| self.hear(rung)).or(value))
    }

    /// Handles a register write. Returns the value if it counts.
    fn hear(&mut self, rung: u32) -> Option<u32> {
        if rung >= self.entries {
            return Some(rung);
        }
        let passed = self.way(rung, self.at);
        let Some(more) = self.ahead.checked_sub(passed) else {
            (self.at, self.ahead) = (rung, 0);
            return Some(rung);
        };
        // The round in which the doorbell passed the value is unknown. Assumes the first possible
        // round.
        self.ahead -= more % u64::from(self.entries);
        None
    }

    /// Returns the distance between two entries of the queue.
    fn way(&self, from: u32, to: u32) -> u64 {
        u64::from((to + self.entries - from) % self.entries)
    }

    /// Replaces another doorbell of the same queue, and keeps its distance to the register.
    pub(crate) fn follow(mut self, before: Option<&Self>) -> Self {
        self.ahead = before.map_or(0, |before| before.ahead);
        self
    }

    /// Sets the event index to `value`, where the doorbell stands. Returns the doorbell if it has
    /// moved in between: the guest does not write the register for that.
    pub(crate) fn arm(&mut self, memory: &Memory, value: u32) -> Result<Option<u32>, Errno> {
        self.expect(memory, value)?;
        // Pairs with the barrier of the guest between its doorbell and the event index.
        fence(Ordering::SeqCst);
        self.look(memory, None)
    }

    /// Sets the event index. Returns EFAULT if the memory cannot be written.
    pub(crate) fn expect(&mut self, memory: &Memory, event: u32) -> Result<(), Errno> {
        if self.event != Some(event) {
            memory.store(self.event_address, event.to_le())?;
            self.event = Some(event);
        }
        Ok(())
    }
}

/// The result of reading a doorbell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// There are commands, or there is room for completions.
    Something,
    /// There is no work. The guest will write the doorbell.
    Nothing,
    /// The doorbell is out of range.
    Nonsense,
}
