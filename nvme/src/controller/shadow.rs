//! Doorbells in the guest's memory (Doorbell Buffer Config).
//!
//! The guest writes a doorbell's value to a buffer of its own, and to the register only when that takes
//! it past the value that the controller has put into a second buffer, the event index. So a
//! controller that is busy is not disturbed, and one that runs out of work says from where on it wants
//! to be rung. Both sides write their word, have a full barrier, and read the other's: whichever is
//! later sees what the other did, so nothing is missed.

use std::sync::atomic::{Ordering, fence};
use vfio_irq_user::{Errno, Memory};

/// The two buffers. Words are where the registers are: the tail of submission queue n at 2n, the head
/// of completion queue n at 2n + 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Buffers {
    doorbells: u64,
    events: u64,
}

impl Buffers {
    /// Buffers at these addresses; `None` unless both are pages, of this size, that are there.
    pub(super) fn new(memory: &Memory, page: u32, doorbells: u64, events: u64) -> Option<Self> {
        let len = usize::try_from(page).ok()?;
        let there =
            |address: u64| address.is_multiple_of(page.into()) && memory.covers(address, len);
        (doorbells != events && there(doorbells) && there(events))
            .then_some(Self { doorbells, events })
    }

    /// The doorbell of this number, of a queue with so many entries. It stands at `value` and is rung
    /// when it passes `event`.
    pub(super) fn doorbell(
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
/// A guest writes the memory, and then perhaps the register. A register is heard of later than the
/// memory is seen, so its value may be one that the doorbell has passed: to go back there would carry
/// commands out once more. A guest may also write the register alone: Linux does for the admin queue,
/// and any guest may that does not use the memory any more. So a value of the register counts unless
/// the doorbell may have passed it since the register was heard of before. If the doorbell has gone
/// round the whole queue meanwhile, it has passed every value, and none counts.
#[derive(Debug)]
pub(super) struct Doorbell {
    address: u64,
    event_address: u64,
    entries: u32,
    /// What the memory held last.
    seen: u32,
    /// Where the doorbell stands.
    at: u32,
    /// How far that is ahead of the register as it was heard of last, at most: rounds count.
    ahead: u64,
    /// What the event index says.
    event: Option<u32>,
}

impl Doorbell {
    /// The value now, if it is another than before, or one that cannot be. `rung` is what the register
    /// holds, if that was written.
    pub(super) fn look(
        &mut self,
        memory: &Memory,
        rung: Option<u32>,
    ) -> Result<Option<u32>, Errno> {
        // The register was read before: what the guest wrote to memory first is seen.
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

    /// The register was written. Returns its value if that counts.
    fn hear(&mut self, rung: u32) -> Option<u32> {
        if rung >= self.entries {
            return Some(rung);
        }
        let passed = self.way(rung, self.at);
        let Some(more) = self.ahead.checked_sub(passed) else {
            (self.at, self.ahead) = (rung, 0);
            return Some(rung);
        };
        // In which round it was passed is not known: in the first of those that are possible.
        self.ahead -= more % u64::from(self.entries);
        None
    }

    /// How far it is from one place of the queue to another.
    fn way(&self, from: u32, to: u32) -> u64 {
        u64::from((to + self.entries - from) % self.entries)
    }

    /// Takes the place of another one, of the same queue.
    pub(super) fn follow(mut self, before: Option<&Self>) -> Self {
        self.ahead = before.map_or(0, |before| before.ahead);
        self
    }

    /// Asks to be rung when the doorbell passes `value`, where it stands. Returns where it went
    /// meanwhile: nobody rings for that.
    pub(super) fn arm(&mut self, memory: &Memory, value: u32) -> Result<Option<u32>, Errno> {
        self.expect(memory, value)?;
        // The guest writes the doorbell, has its barrier and reads the event index.
        fence(Ordering::SeqCst);
        self.look(memory, None)
    }

    /// Asks to be rung when the doorbell passes `event`.
    pub(super) fn expect(&mut self, memory: &Memory, event: u32) -> Result<(), Errno> {
        if self.event != Some(event) {
            memory.store(self.event_address, event.to_le())?;
            self.event = Some(event);
        }
        Ok(())
    }
}

/// What a look at a doorbell has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// There is something to do: commands, or room for completions.
    Something,
    /// There is not. The doorbell will be rung.
    Nothing,
    /// It stands where it cannot.
    Nonsense,
}
