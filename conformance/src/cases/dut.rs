//! The device under test, with what cases expect of it: answers to requests, signals of eventfds.

use crate::target::{Core, Target};
use crate::vfio::Facts;
use crate::{Answer, Error, Index, Info, Request, flags, requests};
use std::fmt::Debug;

/// Why a case ends early.
#[derive(Debug)]
pub enum Stop {
    /// The rule does not hold.
    Broken(String),
    /// The target has nothing to try the case on.
    NotApplicable(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Uncarried | Error::Unraisable { .. } => Self::NotApplicable(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl Stop {
    /// Adds where a rule was broken.
    pub fn at(self, place: &str) -> Self {
        match self {
            Self::Broken(why) => Self::Broken(format!("{place}: {why}")),
            Self::NotApplicable(why) => Self::NotApplicable(why),
        }
    }
}

/// The result of a case.
pub type Verdict = Result<(), Stop>;

/// Fails with a sentence unless `holds`.
pub fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Stop::Broken(otherwise())) }
}

/// Fails unless a value is what it was before.
pub fn same<T: PartialEq + Debug>(what: &str, before: &T, after: &T) -> Verdict {
    check(before == after, || format!("{what} before: {before:?}, after: {after:?}"))
}

/// Ends the case as not applicable unless `there`.
pub fn need(there: bool, otherwise: &str) -> Verdict {
    if there { Ok(()) } else { Err(Stop::NotApplicable(otherwise.into())) }
}

/// A descriptor that is never open, because it is above every limit.
pub const CLOSED: i32 = i32::MAX;

/// The device under test: a target with the checks that cases share.
pub struct Dut<'t> {
    /// The target itself.
    pub target: &'t mut dyn Target,
}

impl<'t> Dut<'t> {
    pub(crate) fn new(target: &'t mut dyn Target) -> Self {
        Self { target }
    }

    /// Returns true if the target answers the rules beyond Linux.
    pub fn beyond(&self) -> bool {
        self.target.core() == Core::Rust
    }

    /// Returns the interrupt capabilities in configuration space.
    pub fn facts(&self) -> Facts {
        self.target.facts()
    }

    /// Returns the answer of GET_IRQ_INFO for an index.
    pub fn info(&mut self, index: Index) -> Result<Info, Stop> {
        let mut bytes = requests::ask(index.raw()).to_bytes();
        let answer = self.target.get_irq_info(&mut bytes)?;
        check(answer == Answer::OK, || format!("GET_IRQ_INFO of {index:?} answered {answer}"))?;
        Ok(Info::from_bytes(&bytes))
    }

    /// Returns the answer to a loopback or a detach of vectors that were not allocated, and to a
    /// first request with count 0. Linux before 6.5 knows the allocated vectors only.
    pub fn of_unallocated(&self) -> Answer {
        if self.target.is_before_linux(6, 5) { Answer::EINVAL } else { Answer::OK }
    }

    /// Returns true if the device has the index.
    pub fn has(&mut self, index: Index) -> Result<bool, Stop> {
        let mut bytes = requests::ask(index.raw()).to_bytes();
        Ok(self.target.get_irq_info(&mut bytes)? != Answer::EINVAL)
    }

    /// Returns the indexes that the device has.
    pub fn indexes(&mut self) -> Result<Vec<Index>, Stop> {
        let mut there = Vec::new();
        for index in Index::ALL {
            if self.has(index)? {
                there.push(index);
            }
        }
        Ok(there)
    }

    /// Runs for each of the indexes that the device has.
    pub fn on(
        &mut self,
        indexes: &[Index],
        mut attempt: impl FnMut(&mut Self, Index) -> Verdict,
    ) -> Verdict {
        for index in indexes {
            if self.has(*index)? {
                attempt(self, *index)?;
            }
        }
        Ok(())
    }

    /// Returns true if the index is dynamic: a vector can be added while others are in use.
    pub fn dynamic(&mut self, index: Index) -> Result<bool, Stop> {
        Ok(self.info(index)?.flags & flags::NORESIZE == 0)
    }

    /// Returns true if vectors of the index can be masked.
    pub fn maskable(&mut self, index: Index) -> Result<bool, Stop> {
        Ok(self.info(index)?.flags & flags::MASKABLE != 0)
    }

    /// Sends a request. Returns the answer.
    pub fn send(&mut self, request: &Request) -> Result<Answer, Stop> {
        Ok(self.target.set_irqs(&request.bytes())?)
    }

    /// Sends a request and fails unless the answer is `expected`.
    pub fn expect(&mut self, request: &Request, expected: Answer) -> Verdict {
        let answer = self.send(request)?;
        check(answer == expected, || format!("{request} answered {answer}, not {expected}"))
    }

    /// Sends a request and fails unless it succeeds.
    pub fn ok(&mut self, request: &Request) -> Verdict {
        self.expect(request, Answer::OK)
    }

    /// Attaches descriptors. Ends the case as not applicable if the machine has too few vectors.
    pub fn attach(&mut self, index: Index, start: u32, fds: &[i32]) -> Verdict {
        let request = Request::attach(index, start, fds);
        match self.send(&request)? {
            Answer::OK => Ok(()),
            answer if answer.0 > 0 || answer == Answer::ENOSPC => {
                need(false, &format!("the machine is short of vectors for {index:?}: {answer}"))
            }
            Answer::ENODEV if index == Index::Intx => need(false, "the pin leads nowhere"),
            answer => Err(Stop::Broken(format!("{request} answered {answer}, not {}", Answer::OK))),
        }
    }

    /// Creates an eventfd. Returns its number.
    pub fn fd(&mut self) -> Result<i32, Stop> {
        Ok(self.target.eventfd()?)
    }

    /// Creates `N` eventfds. Returns their numbers.
    pub fn fds<const N: usize>(&mut self) -> Result<[i32; N], Stop> {
        let mut fds = [-1; N];
        fds.iter_mut().try_for_each(|fd| self.fd().map(|new| *fd = new))?;
        Ok(fds)
    }

    /// Creates `count` eventfds. Returns their numbers.
    pub fn many_fds(&mut self, count: u32) -> Result<Vec<i32>, Stop> {
        (0..count).map(|_| self.fd()).collect()
    }

    /// Attaches `N` new eventfds to the first `N` vectors. Returns their numbers.
    pub fn attached<const N: usize>(&mut self, index: Index) -> Result<[i32; N], Stop> {
        let fds = self.fds()?;
        self.attach(index, 0, &fds)?;
        Ok(fds)
    }

    /// Fails unless the device holds so many interrupts of the machine. Passes where the target
    /// cannot tell.
    pub fn allocates(&self, expected: usize) -> Verdict {
        let allocated = self.target.allocated().unwrap_or(expected);
        check(allocated == expected, || format!("{allocated} allocated, not {expected}"))
    }

    /// Fails unless an eventfd was signalled `times` times since the last look.
    pub fn signalled(&mut self, fd: i32, times: u64, when: &str) -> Verdict {
        let signals = self.target.signals(fd)?;
        check(signals == times, || format!("{when}: {signals} signals and not {times}"))
    }

    /// Fails unless the loopback of a vector signals each of `reached` once, and no other eventfd.
    pub fn loops_to(&mut self, index: Index, vector: u32, reached: &[i32], not: &[i32]) -> Verdict {
        self.ok(&Request::loopback(index, vector, 1))?;
        let when = format!("loopback of vector {vector} of {index:?}");
        reached.iter().try_for_each(|fd| self.signalled(*fd, 1, &when))?;
        not.iter().try_for_each(|fd| self.signalled(*fd, 0, &format!("{when}, another eventfd")))
    }

    /// Fails unless each vector from 0 on has its own eventfd attached.
    pub fn all_attached(&mut self, index: Index, fds: &[i32]) -> Verdict {
        for (vector, fd) in (0..).zip(fds) {
            let others: Vec<_> = fds.iter().copied().filter(|other| other != fd).collect();
            self.loops_to(index, vector, &[*fd], &others)?;
        }
        Ok(())
    }

    /// Returns true if the index is active, by a request that only succeeds then.
    pub fn active(&mut self, index: Index) -> Result<bool, Stop> {
        let none_of_all = Request::bools(flags::TRIGGER, index, 0, &[0]);
        Ok(self.send(&none_of_all)? == Answer::OK)
    }

    /// Fails unless the index is idle.
    pub fn idle(&mut self, index: Index, when: &str) -> Verdict {
        check(!self.active(index)?, || format!("{when}: {index:?} is still active"))
    }

    /// Prepares the device to raise vectors, and discards the signals of the preparation.
    pub fn ready(&mut self, index: Index, vectors: u32, fds: &[i32]) -> Verdict {
        let reach = self.target.reach(index);
        need(reach >= vectors, "nothing raises that many vectors here")?;
        self.target.ready(index, vectors)?;
        fds.iter().try_for_each(|fd| Ok(self.target.signals(*fd).map(|_| ())?))
    }

    /// Raises a vector. Fails unless it is signalled once, on this eventfd.
    pub fn delivers(&mut self, index: Index, vector: u32, fd: i32) -> Verdict {
        self.target.raise(index, vector)?;
        self.arrives(fd, &format!("the device raised vector {vector} of {index:?}"))
    }

    /// Fails unless an eventfd is signalled once.
    pub fn arrives(&mut self, fd: i32, when: &str) -> Verdict {
        let arrived = self.target.wait(fd)?;
        check(arrived, || format!("{when}: no signal within ten seconds"))?;
        self.signalled(fd, 1, when)
    }

    /// Raises a vector and fails if it is signalled. The signal of another vector, `witness`, shows
    /// that the signal of this one would have arrived. Without another vector, the witness may be
    /// the same.
    pub fn holds(&mut self, index: Index, vector: u32, fd: i32, witness: (u32, i32)) -> Verdict {
        self.target.raise(index, vector)?;
        if witness.0 != vector {
            self.delivers(index, witness.0, witness.1)?;
        }
        self.signalled(fd, 0, &format!("vector {vector} of {index:?} is held"))
    }

    /// Runs for MSI and for MSI-X if the device has so many vectors; reopens in between.
    pub fn each(
        &mut self,
        least: u32,
        mut attempt: impl FnMut(&mut Self, Index, u32) -> Verdict,
    ) -> Verdict {
        let (mut tried, mut why) = (false, String::from("the device has too few vectors"));
        for index in [Index::Msi, Index::Msix] {
            let count = self.info(index)?.count;
            if count < least {
                continue;
            }
            match attempt(self, index, count) {
                Ok(()) => tried = true,
                Err(Stop::NotApplicable(reason)) => why = reason,
                Err(stop) => return Err(stop.at(&format!("{index:?}"))),
            }
            self.reopen()?;
        }
        need(tried, &why)
    }

    /// Closes the device, which must release everything.
    pub fn close(&mut self) -> Verdict {
        self.target.close()?;
        let leak = self.target.leaks();
        check(leak.is_none(), || {
            format!("the closed device still holds: {}", leak.unwrap_or_default())
        })
    }

    /// Closes the device, which must release everything, and opens it again.
    pub fn reopen(&mut self) -> Verdict {
        self.close()?;
        Ok(self.target.open()?)
    }
}
