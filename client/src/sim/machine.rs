//! The engine on the simulated platform, with real eventfds.

use super::{Errno, IrqCaps};
use crate::{Data, Index, Info, SetIrqs, Trigger};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use vfio_irq_engine::sim::{Sim, SimVector};
use vfio_irq_engine::{IrqEngine, Refusal};

/// The identity of an eventfd, whatever its descriptor number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Identity {
    Eventfd(u64),
    Other,
}

impl Identity {
    pub(super) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
        let id = text.lines().find_map(|line| line.strip_prefix("eventfd-id:"));
        Ok(id.and_then(|id| id.trim().parse().ok()).map_or(Self::Other, Self::Eventfd))
    }
}

/// An eventfd of the simulated platform.
struct Known {
    number: i32,
    /// A duplicate, since the kernel holds references to files, not to descriptor numbers.
    file: Trigger,
    /// Signals that were passed on to the real eventfd.
    seen: u64,
}

pub(super) struct Machine {
    pub(super) sim: Sim,
    device: IrqEngine<Sim>,
    eventfds: BTreeMap<u64, Known>,
    /// The identity of each descriptor number of the platform.
    identities: BTreeMap<i32, u64>,
    pub(super) requests: u64,
}

impl Machine {
    pub(super) fn new(caps: IrqCaps) -> Self {
        let sim = Sim::with(caps);
        let device = IrqEngine::new(sim.slots());
        Self { sim, device, eventfds: BTreeMap::new(), identities: BTreeMap::new(), requests: 0 }
    }

    /// Returns the descriptor number of the platform for a real descriptor.
    fn number(&mut self, fd: BorrowedFd<'_>) -> i32 {
        let (Ok(Identity::Eventfd(id)), Ok(file)) = (Identity::of(fd), fd.try_clone_to_owned())
        else {
            return self.sim.other_file();
        };
        let sim = &mut self.sim;
        let new = || Known { number: sim.eventfd(), file: file.into(), seen: 0 };
        let number = self.eventfds.entry(id).or_insert_with(new).number;
        self.identities.insert(number, id);
        number
    }

    pub(super) fn info(&self, index: Index) -> Info {
        self.device.info(&self.sim, index)
    }

    pub(super) fn set_irqs(&mut self, request: &SetIrqs<'_>) -> io::Result<u32> {
        self.requests += 1;
        let (header, data) = request.encode(|fd| self.number(fd));
        let checked = self.device.check(&self.sim, header).map_err(errno)?;
        let checked = checked.request(&data).map_err(errno)?;
        let outcome = self.device.set_irqs(&mut self.sim, &checked);
        match request.data {
            // Only vectors of the range can have been signalled, by a pending interrupt.
            Data::Eventfd(_) => checked.range().numbers().for_each(|n| self.deliver_vector(n)),
            Data::None { .. } | Data::Bool(_) => self.deliver(),
        }
        match outcome {
            Ok(()) => Ok(0),
            Err(Refusal::TooFew(there)) if there > 0 => Ok(there),
            Err(Refusal::TooFew(_)) => Err(errno(Errno::ENOSPC)),
            Err(Refusal::Errno(why)) => Err(errno(why)),
        }
    }

    pub(super) fn signal(&mut self, trigger: &Trigger) {
        let Ok(Identity::Eventfd(id)) = Identity::of(trigger.as_fd()) else { return };
        if let Some(known) = self.eventfds.get(&id) {
            self.sim.signal_eventfd(known.number);
            self.deliver();
        }
    }

    /// Passes signals on to the real eventfds.
    pub(super) fn deliver(&mut self) {
        for known in self.eventfds.values_mut() {
            known.deliver(&self.sim);
        }
    }

    /// Passes signals of one vector on to its real eventfd.
    pub(super) fn deliver_vector(&mut self, vector: u32) {
        let slot = self.device.vectors().slot(vector);
        let number = slot.and_then(|slot| slot.vector()).map(SimVector::fd);
        let id = number.and_then(|number| self.identities.get(&number));
        if let Some(known) = id.and_then(|id| self.eventfds.get_mut(id)) {
            known.deliver(&self.sim);
        }
    }
}

impl Known {
    fn deliver(&mut self, sim: &Sim) {
        let signals = sim.signals(self.number);
        for _ in self.seen..signals {
            // The descriptor was identified as an eventfd, so the signal cannot fail.
            let _ = self.file.signal();
        }
        self.seen = signals;
    }
}

pub(super) fn errno(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw())
}
