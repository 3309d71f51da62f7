//! Random requests over MSI-X, and a check of their effects.

use super::board::Board;
use crate::sys::Guarded;
use crate::vfio::Device;
use crate::{Answer, Error, Index, Request, flags};

const INDEX: Index = Index::Msix;

/// A small generator (splitmix64): the same seed gives the same requests.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Creates a generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number below `bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        u32::try_from(z % u64::from(bound.max(1))).unwrap_or(0)
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// Counts of the requests that were sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// How often the index was enabled.
    pub enables: u64,
    /// How often the index was disabled.
    pub disables: u64,
    /// Vectors attached, first or again.
    pub attaches: u64,
    /// Triggers replaced.
    pub retargets: u64,
    /// Vectors detached.
    pub detaches: u64,
    /// Vectors masked.
    pub masks: u64,
    /// Vectors unmasked.
    pub unmasks: u64,
    /// Requests that had to fail, and did.
    pub refusals: u64,
}

/// The state that the requests so far must have led to.
pub struct Player<'a> {
    device: &'a Device,
    board: &'a Board,
    dice: Dice,
    /// True if the core masks, and refuses without changing anything.
    beyond: bool,
    active: bool,
    attached: Vec<bool>,
    masked: Vec<bool>,
    request: Guarded,
    /// Counts of the requests that were sent.
    pub sent: Sent,
}

impl<'a> Player<'a> {
    /// Creates a player for a device whose MSI-X is active, with every vector of the board attached
    /// to its first eventfd, as [`attach_all`] leaves it.
    pub fn new(
        device: &'a Device,
        board: &'a Board,
        seed: u64,
        beyond: bool,
    ) -> Result<Self, Error> {
        let vectors = board.vectors().len();
        Ok(Self {
            device,
            board,
            dice: Dice::new(seed),
            beyond,
            active: true,
            attached: vec![true; vectors],
            masked: vec![false; vectors],
            request: Guarded::new()?,
            sent: Sent::default(),
        })
    }

    fn send(&mut self, request: &Request, expected: Answer) -> Result<(), Error> {
        self.request.put(&request.bytes())?;
        let answer = self.device.set_irqs(&self.request);
        if answer == expected {
            return Ok(());
        }
        Err(Error::Table(format!("{request} answered {answer}, not {expected}")))
    }

    /// Sends one random request.
    pub fn play(&mut self) -> Result<(), Error> {
        if !self.active {
            return self.enable();
        }
        match self.dice.below(100) {
            0..2 => self.disable(),
            2..14 => self.detach(),
            14..30 if self.beyond => self.mask_range(flags::MASK),
            30..50 if self.beyond => self.mask_range(flags::UNMASK),
            50..56 if self.beyond => self.refused(),
            _ => self.attach(),
        }
    }

    fn range(&mut self) -> (u32, u32) {
        let all = self.board.vectors().end;
        let start = self.dice.below(all);
        let most = if self.dice.below(4) == 0 { all - start } else { 1 };
        (start, 1 + self.dice.below(most))
    }

    fn flag(list: &mut [bool], vector: u32) -> Option<&mut bool> {
        list.get_mut(usize::try_from(vector).ok()?)
    }

    fn settle(&mut self, vector: u32) {
        let [attached, masked] = [&mut self.attached, &mut self.masked]
            .map(|list| Self::flag(list, vector).copied().unwrap_or(false));
        self.board.settle(vector, attached, masked);
    }

    fn fds(&mut self, start: u32, count: u32) -> Vec<i32> {
        (start..start + count).map(|vector| self.board.fd(vector, self.dice.coin())).collect()
    }

    fn attach_range(&mut self, start: u32, count: u32) -> Result<(), Error> {
        let fds = self.fds(start, count);
        self.send(&Request::attach(INDEX, start, &fds), Answer::OK)?;
        for vector in start..start + count {
            let was = Self::flag(&mut self.attached, vector).map(|a| std::mem::replace(a, true));
            let kind =
                if was == Some(true) { &mut self.sent.retargets } else { &mut self.sent.attaches };
            *kind += 1;
            self.settle(vector);
        }
        Ok(())
    }

    fn enable(&mut self) -> Result<(), Error> {
        let count = 1 + self.dice.below(self.board.vectors().end);
        self.attach_range(0, count)?;
        self.active = true;
        self.sent.enables += 1;
        Ok(())
    }

    fn attach(&mut self) -> Result<(), Error> {
        let (start, count) = self.range();
        self.attach_range(start, count)
    }

    fn disable(&mut self) -> Result<(), Error> {
        self.board.vectors().for_each(|vector| self.board.release(vector));
        self.send(&Request::disable(INDEX), Answer::OK)?;
        self.active = false;
        self.attached.fill(false);
        self.masked.fill(false);
        self.sent.disables += 1;
        Ok(())
    }

    fn detach(&mut self) -> Result<(), Error> {
        let (start, count) = self.range();
        (start..start + count).for_each(|vector| self.board.release(vector));
        let fds = vec![-1; usize::try_from(count).unwrap_or(0)];
        self.send(&Request::attach(INDEX, start, &fds), Answer::OK)?;
        for vector in start..start + count {
            if let Some(attached) = Self::flag(&mut self.attached, vector) {
                *attached = false;
            }
            self.sent.detaches += 1;
            self.settle(vector);
        }
        Ok(())
    }

    fn mask_range(&mut self, action: u32) -> Result<(), Error> {
        let (start, count) = self.range();
        let mask = action == flags::MASK;
        if mask {
            (start..start + count).for_each(|vector| self.board.close(vector));
        }
        self.send(&Request::none(action, INDEX, start, count), Answer::OK)?;
        for vector in start..start + count {
            if let Some(masked) = Self::flag(&mut self.masked, vector) {
                *masked = mask;
            }
            let kind = if mask { &mut self.sent.masks } else { &mut self.sent.unmasks };
            *kind += 1;
            self.settle(vector);
        }
        Ok(())
    }

    /// Sends a request over a range whose last descriptor is bad, which must change nothing.
    fn refused(&mut self) -> Result<(), Error> {
        let (start, count) = self.range();
        let mut fds = self.fds(start, count);
        fds.pop();
        fds.push(i32::MAX);
        self.send(&Request::attach(INDEX, start, &fds), Answer::EBADF)?;
        self.sent.refusals += 1;
        Ok(())
    }

    /// Leaves every vector attached and unmasked.
    pub fn finish(&mut self) -> Result<(), Error> {
        let all = self.board.vectors().end;
        self.attach_range(0, all)?;
        self.active = true;
        if self.beyond {
            self.send(&Request::unmask(INDEX, 0, all), Answer::OK)?;
            self.masked.fill(false);
            self.board.vectors().for_each(|vector| self.settle(vector));
        }
        Ok(())
    }
}

/// Attaches every vector of a board to its first eventfd.
pub fn attach_all(device: &Device, board: &Board) -> Result<(), Error> {
    let fds: Vec<_> = board.vectors().map(|vector| board.fd(vector, false)).collect();
    let answer = device.set_irqs(&Guarded::with(&Request::attach(INDEX, 0, &fds).bytes())?);
    if answer != Answer::OK {
        return Err(Error::Refused { step: "attaching vectors of MSI-X", answer });
    }
    board.vectors().for_each(|vector| board.settle(vector, true, false));
    Ok(())
}
