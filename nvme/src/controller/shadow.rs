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

    /// The doorbell of this number, which stands at `value` and is rung when it passes `event`.
    pub(super) fn doorbell(
        self,
        memory: &Memory,
        place: u64,
        value: u32,
        event: u32,
    ) -> Result<Doorbell, Errno> {
        let at = |base: u64| base.checked_add(4 * place).ok_or(Errno::EFAULT);
        let (address, event_address) = (at(self.doorbells)?, at(self.events)?);
        memory.store(event_address, event.to_le())?;
        memory.store(address, value.to_le())?;
        let (seen, event) = (value, Some(event));
        Ok(Doorbell { address, event_address, seen, event, followed: false, stale: None })
    }
}

/// One doorbell in memory.
#[derive(Debug)]
pub(super) struct Doorbell {
    address: u64,
    event_address: u64,
    /// What was there last.
    seen: u32,
    /// What the event index says.
    event: Option<u32>,
    /// The guest has written there. Linux does not for the admin queue: it uses the register alone.
    followed: bool,
    /// What the register held when this took the place of another one that the guest had used: it is
    /// behind what was found there.
    stale: Option<u32>,
}

impl Doorbell {
    /// The value now, if it is another than before. `rung` is what was written to the register: it
    /// counts only as long as the guest has not used the memory, as it may be behind what is there.
    pub(super) fn look(
        &mut self,
        memory: &Memory,
        rung: Option<u32>,
    ) -> Result<Option<u32>, Errno> {
        let now = u32::from_le(memory.load(self.address)?);
        if now != self.seen {
            self.seen = now;
            self.followed = true;
            return Ok(Some(now));
        }
        Ok(rung.filter(|rung| !self.followed && self.stale != Some(*rung)))
    }

    /// Takes the place of another one. The register holds this.
    pub(super) fn follow(mut self, before: Option<&Self>, register: u32) -> Self {
        self.stale = before.filter(|before| before.followed).map(|_| register);
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
