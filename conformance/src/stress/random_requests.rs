//! Random requests over MSI-X, and a check of their effects.

use super::vector_states::{Vector, VectorStates};
use crate::sys::GuardedBytes;
use crate::vfio::Device;
use crate::{Answer, Error, Index, Request, flags};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

const INDEX: Index = Index::Msix;

/// The kinds of what was sent.
const KINDS: [&str; 8] = [
    "enables",
    "disables",
    "attaches",
    "re-targets",
    "detaches",
    "masks",
    "unmasks",
    "that had to fail",
];

/// Counts of what was sent, by kind: vectors, or requests that concern the whole index.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sent(BTreeMap<&'static str, u64>);

impl Sent {
    fn add(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |kind| self.0.get(kind).copied().unwrap_or(0);
        write!(f, "sent: {}", KINDS.map(|kind| format!("{} {kind}", count(kind))).join(", "))
    }
}

/// Sends random requests and records the state to which they lead.
pub struct RandomRequests<'a> {
    device: &'a Device,
    states: &'a VectorStates,
    random: Rng,
    /// True if the core masks, and refuses without changing anything.
    beyond: bool,
    active: bool,
    request: GuardedBytes,
    /// Counts of the requests that were sent.
    pub sent: Sent,
}

impl<'a> RandomRequests<'a> {
    /// Attaches every vector to its first eventfd. The same seed gives the same requests.
    pub fn new(
        device: &'a Device,
        states: &'a VectorStates,
        seed: u64,
        beyond: bool,
    ) -> Result<Self, Error> {
        let (random, request) = (Rng::with_seed(seed), GuardedBytes::new()?);
        let sent = Sent::default();
        let mut requests = Self { device, states, random, beyond, active: true, request, sent };
        let fds: Vec<_> = states.vectors.iter().map(|vector| vector.fd(false)).collect();
        requests.send(&Request::attach(INDEX, 0, &fds), Answer::OK)?;
        for vector in &states.vectors {
            vector.attach();
        }
        Ok(requests)
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
    pub fn send_one(&mut self) -> Result<(), Error> {
        if !self.active {
            return self.enable();
        }
        match self.random.u32(..100) {
            0..2 => self.disable(),
            2..14 => self.detach(),
            14..30 if self.beyond => self.mask(),
            30..50 if self.beyond => self.unmask(),
            50..56 if self.beyond => self.refused(),
            _ => {
                let range = self.range();
                self.attach(range)
            }
        }
    }

    /// Chooses one vector, or now and then several.
    fn range(&mut self) -> Range<usize> {
        let all = self.states.vectors.len();
        let start = self.random.usize(..all);
        let most = if self.random.u8(..4) == 0 { all - start } else { 1 };
        start..start + self.random.usize(1..=most)
    }

    fn vectors(&self, range: &Range<usize>) -> &'a [Vector] {
        &self.states.vectors[range.clone()]
    }

    fn fds(&mut self, range: &Range<usize>) -> Vec<i32> {
        self.vectors(range).iter().map(|vector| vector.fd(self.random.bool())).collect()
    }

    fn attach(&mut self, range: Range<usize>) -> Result<(), Error> {
        let fds = self.fds(&range);
        self.send(&Request::attach(INDEX, number(range.start), &fds), Answer::OK)?;
        for vector in self.vectors(&range) {
            self.sent.add(if vector.attach() { "re-targets" } else { "attaches" });
        }
        Ok(())
    }

    fn enable(&mut self) -> Result<(), Error> {
        let count = self.random.usize(1..=self.states.vectors.len());
        self.attach(0..count)?;
        self.active = true;
        self.sent.add("enables");
        Ok(())
    }

    fn disable(&mut self) -> Result<(), Error> {
        self.states.vectors.iter().for_each(Vector::detach);
        self.send(&Request::disable(INDEX), Answer::OK)?;
        // Disabling the index clears masks.
        self.states.vectors.iter().for_each(Vector::unmask);
        self.active = false;
        self.sent.add("disables");
        Ok(())
    }

    fn detach(&mut self) -> Result<(), Error> {
        let range = self.range();
        self.vectors(&range).iter().for_each(Vector::detach);
        let fds = vec![-1; range.len()];
        self.send(&Request::attach(INDEX, number(range.start), &fds), Answer::OK)?;
        range.for_each(|_| self.sent.add("detaches"));
        Ok(())
    }

    fn mask(&mut self) -> Result<(), Error> {
        let range = self.range();
        self.vectors(&range).iter().for_each(Vector::mask);
        let request = Request::mask(INDEX, number(range.start), number(range.len()));
        self.send(&request, Answer::OK)?;
        range.for_each(|_| self.sent.add("masks"));
        Ok(())
    }

    fn unmask(&mut self) -> Result<(), Error> {
        let range = self.range();
        let request = Request::unmask(INDEX, number(range.start), number(range.len()));
        self.send(&request, Answer::OK)?;
        self.vectors(&range).iter().for_each(Vector::unmask);
        range.for_each(|_| self.sent.add("unmasks"));
        Ok(())
    }

    /// Sends a request over a range whose last descriptor is bad, which must change nothing.
    fn refused(&mut self) -> Result<(), Error> {
        let range = self.range();
        let mut fds = self.fds(&range);
        fds.pop();
        fds.push(i32::MAX);
        let start = number(range.start);
        self.send(&Request::fds(flags::TRIGGER, INDEX, start, &fds), Answer::EBADF)?;
        self.sent.add("that had to fail");
        Ok(())
    }

    /// Leaves every vector attached and unmasked.
    pub fn finish(&mut self) -> Result<(), Error> {
        let all = self.states.vectors.len();
        self.attach(0..all)?;
        self.active = true;
        if self.beyond {
            self.send(&Request::unmask(INDEX, 0, number(all)), Answer::OK)?;
            self.states.vectors.iter().for_each(Vector::unmask);
        }
        Ok(())
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
