//! A submission queue and its completion queue in memory.
//!
//! The driver checks what the controller writes. An invalid completion makes the ring dead: the
//! driver cannot know which commands are outstanding.

use super::function::AnyFunction;
use super::space::{Dma, Space};
use super::{Error, Status};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// Bytes of a command and of a completion.
const COMMAND: usize = 64;
const COMPLETION: usize = 16;

/// The sixteen words of a command. [`Ring::submit`] fills in the command ID.
pub(crate) type Words = [u32; 16];

/// A completed command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The token of the submitter.
    pub token: u64,
    /// The first word of the completion, or the error status.
    pub result: Result<u32, Status>,
}

/// The state of an outstanding command.
struct Slot {
    token: u64,
    /// The data of the command. The device may access it until the command completes.
    _data: Option<Arc<Dma>>,
}

pub(crate) struct Ring {
    function: AnyFunction,
    memory: Arc<Dma>,
    id: u16,
    entries: u16,
    completions: usize,
    /// Doorbells.
    tail_bell: u64,
    head_bell: u64,
    /// The submission tail, and the head that the controller has reported.
    tail: u16,
    fetched: u16,
    /// The completion head, and its phase bit.
    head: u16,
    phase: bool,
    slots: Vec<Option<Slot>>,
    free: Vec<u16>,
    dead: bool,
}

impl Ring {
    /// Allocates a ring of `entries` entries, of which one stays empty. `bells` are the offsets of
    /// its two doorbells.
    pub(crate) fn new(
        function: AnyFunction,
        space: &Arc<Space>,
        page: u64,
        (id, entries): (u16, u16),
        bells: (u64, u64),
    ) -> Result<Self, Error> {
        let commands = (u64::from(entries) * COMMAND as u64).next_multiple_of(page);
        let bytes = commands + u64::from(entries) * COMPLETION as u64;
        let memory = space.allocate(bytes)?;
        let depth = entries.saturating_sub(1);
        Ok(Self {
            function,
            memory,
            id,
            entries,
            completions: usize::try_from(commands).unwrap_or(usize::MAX),
            tail_bell: bells.0,
            head_bell: bells.1,
            tail: 0,
            fetched: 0,
            head: 0,
            phase: true,
            slots: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
            dead: false,
        })
    }

    /// Returns the device addresses of both queues.
    pub(crate) fn addresses(&self) -> (u64, u64) {
        let address = self.memory.address();
        (address, address.saturating_add(self.completions as u64))
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn entries(&self) -> u16 {
        self.entries
    }

    /// Returns how many commands fit.
    pub(crate) fn depth(&self) -> usize {
        self.slots.len()
    }

    /// Returns how many commands are outstanding.
    pub(crate) fn open(&self) -> usize {
        self.depth().saturating_sub(self.free.len())
    }

    /// Marks the ring as dead: it takes no more commands or completions.
    pub(crate) fn kill(&mut self) {
        self.dead = true;
    }

    /// Returns all memory that the device may still access.
    pub(crate) fn held(&mut self) -> impl Iterator<Item = Arc<Dma>> {
        let data = self.slots.iter_mut().filter_map(|slot| slot.take()?._data);
        std::iter::once(Arc::clone(&self.memory)).chain(data)
    }

    /// Returns an error if the ring is dead.
    pub(crate) fn alive(&self) -> Result<(), Error> {
        if self.dead { Err(Error::Dead { queue: self.id }) } else { Ok(()) }
    }

    fn next(&self, place: u16) -> u16 {
        if place.saturating_add(1) >= self.entries { 0 } else { place.saturating_add(1) }
    }

    /// Returns the distance between two entries, going forward.
    fn distance(&self, from: u16, to: u16) -> u16 {
        if to >= from { to - from } else { self.entries - from + to }
    }

    /// Submits a command.
    pub(crate) fn submit(
        &mut self,
        words: Words,
        token: u64,
        data: Option<Arc<Dma>>,
    ) -> Result<(), Error> {
        self.alive()?;
        let full = Error::Full { queue: self.id, depth: self.depth() };
        let next = self.next(self.tail);
        if next == self.fetched {
            // With no outstanding command, no completion could make room.
            return Err(match self.open() {
                0 => self.broken(format!(
                    "it ended every command, but says that it has fetched up to place {next} only"
                )),
                _ => full,
            });
        }
        let Some(number) = self.free.pop() else { return Err(full) };
        let mut bytes = [0; COMMAND];
        for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        let [low, high] = number.to_le_bytes();
        (bytes[2], bytes[3]) = (low, high);
        if self.memory.write(usize::from(self.tail) * COMMAND, &bytes).is_none() {
            return Err(self.broken("a command does not fit into its memory".into()));
        }
        if let Some(slot) = self.slots.get_mut(usize::from(number)) {
            *slot = Some(Slot { token, _data: data });
        }
        self.tail = next;
        // The command and its data must be visible before the doorbell.
        fence(Ordering::SeqCst);
        self.ring(self.tail_bell, next, "ringing for a command")
    }

    fn ring(&mut self, bell: u64, value: u16, what: &'static str) -> Result<(), Error> {
        self.function.ring(bell, value.into()).map_err(|source| {
            // It is unknown whether the controller saw the doorbell.
            self.dead = true;
            Error::Access { what, source }
        })
    }

    fn broken(&mut self, why: String) -> Error {
        self.dead = true;
        Error::Broken { queue: self.id, why }
    }

    fn place(&self) -> usize {
        self.completions.saturating_add(usize::from(self.head) * COMPLETION)
    }

    /// Returns the last word of the next completion, if it was posted.
    fn arrived(&self) -> Option<u32> {
        let word = self.memory.load(self.place().saturating_add(12))?;
        ((word >> 16 & 1 != 0) == self.phase).then_some(word)
    }

    /// Returns true if a completion was posted.
    pub(crate) fn has_completion(&self) -> bool {
        !self.dead && self.arrived().is_some()
    }

    /// Takes all posted completions. Returns how many.
    pub(crate) fn take(&mut self, mut each: impl FnMut(Completion)) -> Result<usize, Error> {
        self.alive()?;
        let mut count = 0;
        while let Some(last) = self.arrived() {
            each(self.completion(last)?);
            count += 1;
        }
        if count > 0 {
            self.ring(self.head_bell, self.head, "acknowledging completions")?;
        }
        Ok(count)
    }

    fn completion(&mut self, last: u32) -> Result<Completion, Error> {
        let place = self.place();
        let (Some(result), Some(middle)) = (self.memory.load(place), self.memory.load(place + 8))
        else {
            return Err(self.broken("a completion is not in its memory".into()));
        };
        let ([head, queue], [number, status]) = (split(middle), split(last));
        if queue != self.id {
            return Err(self.broken(format!("a completion there is of queue {queue}")));
        }
        let (there, fetched) = (self.distance(self.fetched, self.tail), self.fetched);
        if head >= self.entries || self.distance(fetched, head) > there {
            let tail = self.tail;
            return Err(self.broken(format!(
                "it says that it has fetched up to place {head}, which is not between {fetched} and {tail}"
            )));
        }
        let slot = self.slots.get_mut(usize::from(number)).and_then(Option::take);
        let Some(slot) = slot else {
            return Err(self.broken(format!("it ended command {number}, which is not under way")));
        };
        self.free.push(number);
        self.fetched = head;
        self.head = self.next(self.head);
        self.phase ^= self.head == 0;
        let result = Status::of_failure(status).map_or(Ok(result), Err);
        Ok(Completion { token: slot.token, result })
    }
}

/// Lower and upper half.
fn split(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}
