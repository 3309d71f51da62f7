//! A VM in memory.

use super::Errno;
use super::machine::{Identity, errno};
use crate::Trigger;
use crate::kvm::{RoutingEntry, Vm};
use crate::msix::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// Maximum number of routes and of GSIs in KVM.
const MOST: usize = 4096;

/// A VM that handles routes and irqfds as KVM does. Together with [`super::Simulated`], it tests
/// a [`crate::msix::MsixTable`] on a host without KVM.
///
/// ```
/// use std::sync::Arc;
/// use vfio_irq::kvm::KvmRoutes;
/// use vfio_irq::msix::MsixTable;
/// use vfio_irq::sim::{Simulated, SimulatedVm};
/// use vfio_irq::{Index, Vectors};
/// let (device, vm) = (Arc::new(Simulated::new()), Arc::new(SimulatedVm::new()));
/// let routes = KvmRoutes::new(Arc::clone(&vm), Vec::new(), 24..4096);
/// let mut table = MsixTable::new(Vectors::open(device.clone(), Index::Msix)?, routes)?;
/// table.set_control(0x8000)?; // The guest enables MSI-X,
/// table.write(0, &0xfee0_0000_u64.to_le_bytes())?; // writes the address of entry 0,
/// table.write(8, &0x41_u64.to_le_bytes())?; // and its data, and unmasks it.
/// table.commit()?;
/// device.raise(0);
/// assert_eq!(vm.received()[0].data, 0x41);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct SimulatedVm(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    routes: Vec<RoutingEntry>,
    /// Each eventfd and its GSI, by the identity of the eventfd.
    irqfds: BTreeMap<u64, (Trigger, u32)>,
    received: Vec<Message>,
    commits: u64,
    refusal: Option<Errno>,
}

impl SimulatedVm {
    /// Returns a VM without routes and irqfds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the messages that reached the guest since the last call. An irqfd delivers one
    /// message for any number of signals. A signal on a GSI without a message route is lost.
    pub fn received(&self) -> Vec<Message> {
        let mut inner = self.lock();
        inner.deliver();
        std::mem::take(&mut inner.received)
    }

    /// Returns the routes of the last commit.
    pub fn routes(&self) -> Vec<RoutingEntry> {
        self.lock().routes.clone()
    }

    /// Returns the number of KVM_SET_GSI_ROUTING requests, each with the whole table.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Returns the number of eventfds that have an irqfd.
    pub fn irqfds(&self) -> usize {
        self.lock().irqfds.len()
    }

    /// Makes the next request fail with this error. That request changes nothing.
    pub fn fail_next(&self, errno: Errno) {
        self.lock().refusal = Some(errno);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers earlier signals with the routes from before this request. Returns the state, or
    /// the error of [`SimulatedVm::fail_next`].
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
            // Poll first: `take` blocks if the eventfd is in blocking mode.
            if !trigger.is_signalled() || trigger.take() == 0 {
                continue;
            }
            received.extend(routes.iter().filter_map(|route| match route {
                RoutingEntry::Message { gsi, message } if gsi == number => Some(*message),
                _ => None,
            }));
        }
    }
}

/// Returns true if KVM accepts these routes: at most `MOST`, and a message does not share its
/// GSI.
fn are_possible(routes: &[RoutingEntry]) -> bool {
    let (mut all, mut alone) = (BTreeSet::new(), BTreeSet::new());
    routes.len() <= MOST
        && routes.iter().all(|route| match route {
            RoutingEntry::Pin { gsi, .. } => {
                all.insert(*gsi);
                !alone.contains(gsi)
            }
            RoutingEntry::Message { gsi, .. } => alone.insert(*gsi) && all.insert(*gsi),
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
    fn set_routes(&self, routes: &[RoutingEntry]) -> io::Result<()> {
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
        // As in KVM, an irqfd that does not exist is not an error.
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
