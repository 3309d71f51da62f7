//! A VM that exists only in memory.

use super::Errno;
use super::machine::{Identity, errno};
use crate::Trigger;
use crate::kvm::{Message, Route, Vm};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// How many routes KVM takes, and how many GSIs there are.
const MOST: usize = 4096;

/// A VM that does with routes and irqfds what KVM does, and answers as KVM does: for tests of a
/// [`crate::kvm::MsixTable`] on a machine without KVM, together with [`super::Simulated`].
///
/// ```
/// use std::sync::Arc;
/// use vfio_irq::kvm::{MsixTable, Routes};
/// use vfio_irq::sim::{Simulated, SimulatedVm};
/// use vfio_irq::{Index, Vectors};
/// let (device, vm) = (Arc::new(Simulated::new()), Arc::new(SimulatedVm::new()));
/// let routes = Arc::new(Routes::new(Arc::clone(&vm), Vec::new(), 24..4096));
/// let mut table = MsixTable::new(Vectors::open(device.clone(), Index::Msix)?, routes)?;
/// table.set_control(0x8000)?; // the guest enables MSI-X,
/// table.write(0, &0xfee0_0000_u64.to_le_bytes())?; // says where
/// table.write(8, &0x41_u64.to_le_bytes())?; // and what, and unmasks entry 0
/// table.commit()?;
/// device.raise(0);
/// assert_eq!(vm.received()[0].data, 0x41);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
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

/// Whether KVM would take these routes: no more than it can, and a message has its GSI for itself.
fn are_possible(routes: &[Route]) -> bool {
    let (mut all, mut alone) = (BTreeSet::new(), BTreeSet::new());
    routes.len() <= MOST
        && routes.iter().all(|route| match route {
            Route::Pin { gsi, .. } => {
                all.insert(*gsi);
                !alone.contains(gsi)
            }
            Route::Message { gsi, .. } => alone.insert(*gsi) && all.insert(*gsi),
        })
        && all.last().is_none_or(|gsi| usize::try_from(*gsi).is_ok_and(|gsi| gsi < MOST))
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
        if !are_possible(routes) {
            return Err(errno(Errno::EINVAL));
        }
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
