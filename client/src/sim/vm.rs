//! A VM that exists only in memory.

use super::Errno;
use super::machine::{Identity, errno};
use crate::Trigger;
use crate::kvm::{Message, Route, Vm};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// A VM that does with routes and irqfds what KVM does, and counts it: for tests of a
/// [`crate::kvm::MsixTable`] on a machine without KVM, together with [`super::Simulated`].
#[derive(Debug, Default)]
pub struct SimulatedVm(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    routes: Vec<Route>,
    /// By the identity of the eventfd: it, and its GSI.
    irqfds: BTreeMap<u64, (Trigger, u32)>,
    received: Vec<Message>,
    commits: u64,
    refusal: Option<Errno>,
}

impl SimulatedVm {
    /// A VM without routes and irqfds.
    pub fn new() -> Self {
        Self::default()
    }

    /// The messages that reached the guest since this was asked last: those from user space, and one
    /// for each irqfd that was signalled, however often, as its route is. What comes in on a GSI
    /// without a message's route is lost.
    pub fn received(&self) -> Vec<Message> {
        let mut inner = self.lock();
        inner.deliver();
        std::mem::take(&mut inner.received)
    }

    /// The routes that were committed last.
    pub fn routes(&self) -> Vec<Route> {
        self.lock().routes.clone()
    }

    /// How often all routes were replaced: KVM_SET_GSI_ROUTING, each with the whole table.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Eventfds that have an irqfd.
    pub fn irqfds(&self) -> usize {
        self.lock().irqfds.len()
    }

    /// Has the next request fail with this error, and do nothing.
    pub fn fail_next(&self, errno: Errno) {
        self.lock().refusal = Some(errno);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request: what was signalled before it went where things led before it.
    fn request(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.lock();
        inner.deliver();
        match inner.refusal.take() {
            Some(refusal) => Err(errno(refusal)),
            None => Ok(inner),
        }
    }
}

impl Inner {
    fn deliver(&mut self) {
        let Self { routes, irqfds, received, .. } = self;
        for (trigger, number) in irqfds.values() {
            // Asked first: an eventfd may have been made to block.
            if !trigger.is_signalled() || trigger.take() == 0 {
                continue;
            }
            received.extend(routes.iter().filter_map(|route| match route {
                Route::Message { gsi, message } if gsi == number => Some(*message),
                _ => None,
            }));
        }
    }
}

fn identity(eventfd: &EventFd) -> io::Result<(u64, Trigger)> {
    let trigger = Trigger::from(eventfd.try_clone()?);
    match Identity::of(trigger.as_fd())? {
        Identity::Eventfd(id) => Ok((id, trigger)),
        Identity::Other => Err(errno(Errno::EINVAL)),
    }
}

impl Vm for SimulatedVm {
    fn set_routes(&self, routes: &[Route]) -> io::Result<()> {
        let mut inner = self.request()?;
        inner.routes = routes.to_vec();
        inner.commits += 1;
        Ok(())
    }

    fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        let mut inner = self.request()?;
        let (id, trigger) = identity(eventfd)?;
        if inner.irqfds.contains_key(&id) {
            return Err(errno(Errno::EBUSY));
        }
        inner.irqfds.insert(id, (trigger, gsi));
        Ok(())
    }

    fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        let mut inner = self.request()?;
        let (id, _) = identity(eventfd)?;
        // As in KVM, what is not there is no error.
        if inner.irqfds.get(&id).is_some_and(|(_, assigned)| *assigned == gsi) {
            inner.irqfds.remove(&id);
        }
        Ok(())
    }

    fn signal(&self, message: Message) -> io::Result<()> {
        self.request()?.received.push(message);
        Ok(())
    }
}
