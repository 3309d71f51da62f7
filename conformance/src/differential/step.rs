//! The steps of a sequence, and how they are chosen: mostly requests that a user would send, some
//! odd ones, some hostile ones.

use crate::vfio::Facts;
use crate::{Index, Request, flags};
use fastrand::Rng;
use std::ops::Range;

/// Eventfds that requests attach.
pub const EVENTFDS: usize = 12;
/// Eventfds that requests arm. They are attached to no vector: one that is both would signal itself.
pub const RESAMPLERS: usize = 2;
/// Words of a header, of which a hostile request changes one: argsz, flags, index, start, count.
const WORDS: usize = 5;

/// A descriptor of a request. Its number depends on the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fd {
    /// One of the eventfds.
    Eventfd(usize),
    /// One of the eventfds to arm.
    Resampler(usize),
    /// A file that is no eventfd.
    Other,
    /// A descriptor that is not open.
    Closed,
    /// A negative number. -1 detaches.
    Negative(i32),
}

/// The data of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    /// None.
    None(u32),
    /// A byte for each vector.
    Bool(Vec<u8>),
    /// A descriptor for each vector.
    Eventfd(Vec<Fd>),
}

/// A flaw in the bytes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Nothing.
    None,
    /// One bit of one word of the header is another.
    Bit(usize, u32),
    /// The last bytes of the data cannot be read.
    Short,
}

/// A request whose descriptors have no numbers yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    index: Index,
    action: u32,
    start: u32,
    data: Data,
    flaw: Flaw,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// SET_IRQS.
    Set(Template),
    /// GET_IRQ_INFO.
    Info(u32),
    /// The device raises a vector, or INTx. Left out unless the vector has an eventfd.
    Raise(u32),
    /// The device no longer asserts INTx.
    Acknowledge,
    /// User space signals the armed eventfd.
    Resample,
    /// The device is reset.
    Reset,
    /// The device is closed and opened again.
    Reopen,
}

/// Chooses steps.
pub struct Chooser {
    random: Rng,
    facts: Facts,
    /// Descriptors that are not open can be sent.
    closed: bool,
}

impl Chooser {
    /// The same seed chooses the same steps for every device with the same capabilities.
    pub fn new(facts: Facts, closed: bool, seed: u64) -> Self {
        Self { random: Rng::with_seed(seed), facts, closed }
    }

    /// Returns a sequence of so many steps.
    pub fn sequence(&mut self, len: Range<usize>) -> Vec<Step> {
        // A sequence favours one index that the device has, so that it does more with it than enable
        // and disable it. MSI-X is worth more than the others.
        let Facts { pin, msi, msix, .. } = self.facts;
        let weights = [(Index::Intx, pin, 1), (Index::Msi, msi > 0, 1), (Index::Msix, msix > 0, 4)];
        let there = weights.into_iter().filter(|(_, there, _)| *there);
        let favourites: Vec<Index> =
            there.flat_map(|(index, _, weight)| [index].repeat(weight)).collect();
        let favourite = self.random.choice(favourites).unwrap_or(Index::Msix);
        (0..self.random.usize(len)).map(|_| self.step(favourite)).collect()
    }

    fn step(&mut self, favourite: Index) -> Step {
        match self.random.u16(..1000) {
            0..=12 => {
                Step::Info(if self.one_in(4) { self.random.u32(..) } else { self.random.u32(..6) })
            }
            13..=259 => Step::Raise(self.random.u32(..64)),
            260..=299 => Step::Acknowledge,
            300..=329 => Step::Resample,
            330 => Step::Reset,
            331 => Step::Reopen,
            _ => Step::Set(self.template(favourite)),
        }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(..n) == 0
    }

    fn template(&mut self, favourite: Index) -> Template {
        let index = match self.random.u8(..19) {
            0 => Index::Intx,
            1 => Index::Msi,
            2 => Index::Msix,
            3 => Index::Err,
            4 => Index::Req,
            _ => favourite,
        };
        let (action, data) = match self.random.u8(..20) {
            0..=8 => (flags::TRIGGER, self.fds(index)),
            9 => (flags::TRIGGER, Data::None(0)),
            10..=11 => (flags::TRIGGER, self.selection(index)),
            12..=14 => (flags::MASK, self.selection(index)),
            15..=18 => (flags::UNMASK, self.selection(index)),
            _ if self.one_in(4) => (flags::MASK, self.resamplers(index)),
            _ => (flags::UNMASK, self.resamplers(index)),
        };
        Template { index, action, start: self.start(index), data, flaw: self.flaw() }
    }

    /// Returns the number of vectors of an index.
    fn vectors(&self, index: Index) -> u32 {
        match index {
            Index::Msi => self.facts.msi,
            Index::Msix => self.facts.msix,
            Index::Intx | Index::Err | Index::Req => 1,
        }
    }

    /// Returns a first vector: mostly a small one, so that requests meet, sometimes one at the end
    /// of the table.
    fn start(&mut self, index: Index) -> u32 {
        let vectors = self.vectors(index);
        match self.random.u8(..20) {
            _ if vectors == 1 => u32::from(self.one_in(20)),
            0..=3 => 0,
            4..=17 => self.random.u32(..8),
            _ => self.random.u32(vectors.saturating_sub(6)..vectors.saturating_add(2)),
        }
    }

    fn count(&mut self, index: Index) -> usize {
        match index {
            Index::Msi | Index::Msix => self.random.usize(..7),
            Index::Intx | Index::Err | Index::Req => usize::from(!self.one_in(20)),
        }
    }

    fn selection(&mut self, index: Index) -> Data {
        let count = self.count(index);
        if self.random.bool() {
            return Data::None(u32::try_from(count).unwrap_or(0));
        }
        let bools = [0, 1, self.random.u8(..)];
        Data::Bool((0..count).map(|_| bools[self.random.usize(..bools.len())]).collect())
    }

    fn fds(&mut self, index: Index) -> Data {
        let all = self.one_in(30);
        let count =
            if all { usize::try_from(self.vectors(index)).unwrap_or(0) } else { self.count(index) };
        Data::Eventfd((0..count).map(|_| self.fd(all)).collect())
    }

    fn fd(&mut self, good: bool) -> Fd {
        match self.random.u8(..66) {
            0..=15 if !good => Fd::Negative(-1),
            16 if !good => Fd::Other,
            17 if !good && self.closed => Fd::Closed,
            18 if !good && self.one_in(3) => Fd::Negative(-2),
            19 if !good && self.one_in(3) => Fd::Negative(i32::MIN),
            _ => Fd::Eventfd(self.random.usize(..EVENTFDS)),
        }
    }

    fn resamplers(&mut self, index: Index) -> Data {
        let fd = |random: &mut Rng| match random.u8(..11) {
            0..=3 => Fd::Negative(-1),
            4 => Fd::Other,
            _ => Fd::Resampler(random.usize(..RESAMPLERS)),
        };
        Data::Eventfd((0..self.count(index)).map(|_| fd(&mut self.random)).collect())
    }

    fn flaw(&mut self) -> Flaw {
        match self.random.u8(..33) {
            0..=1 => Flaw::Bit(self.random.usize(..WORDS), self.random.u32(..32)),
            2 => Flaw::Short,
            _ => Flaw::None,
        }
    }
}

impl Template {
    /// Returns the request with the target's descriptors.
    pub fn request(&self, number: impl Fn(Fd) -> i32) -> Request {
        let Self { index, action, start, ref data, flaw } = *self;
        let mut request = match data {
            Data::None(count) => Request::none(action, index, start, *count),
            Data::Bool(bools) => Request::bools(action, index, start, bools),
            Data::Eventfd(fds) => {
                let fds: Vec<i32> = fds.iter().map(|fd| number(*fd)).collect();
                Request::fds(action, index, start, &fds)
            }
        };
        match flaw {
            Flaw::None => {}
            Flaw::Short => drop(request.data.pop()),
            Flaw::Bit(word, bit) => {
                let Request { argsz, flags, index, start, count, .. } = &mut request;
                if let Some(word) = [argsz, flags, index, start, count].into_iter().nth(word) {
                    *word ^= 1 << bit;
                }
            }
        }
        request
    }
}
