//! The routes of a VM: GSIs are allocated on first use, and committed in batches.

use super::stock::Stock;
use super::{RoutingEntry, Vm};
use crate::msix::{Message, Route, Routes};
use crate::{Error, Trigger};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The fewest changes that make a batch.
const LEAST_BATCH: usize = 16;

/// All interrupt routes of a VM. KVM replaces its routes as one table. A VM therefore has one
/// `KvmRoutes`, and the tables of its devices share it as clones.
///
/// ```
/// use std::sync::Arc;
/// use vfio_irq::kvm::{KvmRoutes, RoutingEntry};
/// use vfio_irq::msix::MsixTable;
/// use vfio_irq::{Index, Vectors, sim::{Simulated, SimulatedVm}};
/// let vm = Arc::new(SimulatedVm::new());
/// // Every commit includes the pins of the VMM.
/// let pin = |gsi| RoutingEntry::Pin { gsi, chip: kvm_bindings::KVM_IRQCHIP_IOAPIC, pin: gsi };
/// let routes = KvmRoutes::new(Arc::clone(&vm), (0..24).map(pin).collect(), 24..4096);
/// let vectors = Vectors::open(Simulated::new(), Index::Msix)?;
/// let mut table = MsixTable::new(vectors, routes.clone())?;
/// table.set_control(0x8000)?;
/// table.write(12, &0_u32.to_le_bytes())?; // The guest unmasks vector 0.
/// table.commit()?;
/// assert_eq!(vm.routes().len(), 24 + 1);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Debug)]
pub struct KvmRoutes<V>(Arc<Shared<V>>);

/// One GSI, its eventfd and its irqfd.
#[derive(Debug)]
pub struct KvmRoute<V: Vm> {
    shared: Arc<Shared<V>>,
    gsi: u32,
    trigger: Trigger,
    /// KVM_IRQFD assigned the eventfd to the GSI.
    assigned: bool,
}

#[derive(Debug)]
struct Shared<V> {
    vm: V,
    fixed: Vec<RoutingEntry>,
    inner: Mutex<Inner>,
    stock: Stock,
}

#[derive(Debug)]
struct Inner {
    routes: BTreeMap<u32, (Message, State)>,
    free: Vec<u32>,
    fresh: Range<u32>,
    /// Changes that KVM has not received.
    waiting: usize,
    /// Number of changes that make a batch.
    batch: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Committed,
}

impl<V> Clone for KvmRoutes<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Vm> KvmRoutes<V> {
    /// Returns the routes of a VM. `fixed` are routes that every commit includes (pins). `gsis`
    /// are the GSIs to allocate.
    pub fn new(vm: V, fixed: Vec<RoutingEntry>, gsis: Range<u32>) -> Self {
        let inner = Inner {
            routes: BTreeMap::new(),
            free: Vec::new(),
            fresh: gsis,
            waiting: 0,
            batch: LEAST_BATCH,
        };
        Self(Arc::new(Shared { vm, fixed, inner: Mutex::new(inner), stock: Stock::default() }))
    }

    /// Makes eventfds ahead. A vector in use takes two of them, and gives them back. A VMM whose
    /// virtual processors may not call `eventfd2` makes two for each entry of a device's table that
    /// the guest can use, on a thread that may.
    ///
    /// # Errors
    ///
    /// [`Error::Descriptor`] if the process or the system has no descriptor left.
    pub fn make_eventfds(&self, count: usize) -> Result<(), Error> {
        self.0.stock.add(count)
    }

    /// Returns the VM.
    pub fn vm(&self) -> &V {
        &self.0.vm
    }

    /// Returns the number of routes that KVM has not received. Until the next commit, user space
    /// sends the messages of their vectors.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting
    }
}

impl<V: Vm> Routes for KvmRoutes<V> {
    type Route = KvmRoute<V>;

    fn allocate(&self) -> io::Result<Option<KvmRoute<V>>> {
        let Some(gsi) = self.0.lock().next_gsi() else { return Ok(None) };
        let shared = Arc::clone(&self.0);
        match self.0.stock.take() {
            Ok(trigger) => Ok(Some(KvmRoute { shared, gsi, trigger, assigned: false })),
            Err(error) => {
                self.0.lock().free.push(gsi);
                Err(error
                    .errno()
                    .map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error))
            }
        }
    }

    /// Replaces the routes of KVM, if any wait.
    fn flush(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        if inner.waiting == 0 {
            return Ok(());
        }
        let messages = inner.routes.iter();
        let messages = messages
            .map(|(gsi, (message, _))| RoutingEntry::Message { gsi: *gsi, message: *message });
        let all: Vec<RoutingEntry> = self.0.fixed.iter().copied().chain(messages).collect();
        tracing::debug!(routes = all.len(), waiting = inner.waiting, "KVM_SET_GSI_ROUTING");
        if let Err(error) = self.0.vm.set_routes(&all) {
            inner.batch = inner.waiting.saturating_mul(2);
            return Err(error);
        }
        inner.routes.values_mut().for_each(|(_, state)| *state = State::Committed);
        inner.waiting = 0;
        inner.batch = inner.routes.len().max(LEAST_BATCH);
        Ok(())
    }

    /// Returns true if as many routes wait as there are routes. Each route is therefore committed
    /// twice on average, for any number of vectors.
    fn is_due(&self) -> bool {
        let inner = self.0.lock();
        inner.waiting >= inner.batch
    }

    fn signal(&self, message: Message) -> io::Result<()> {
        self.0.vm.signal(message)
    }

    fn eventfd(&self) -> Result<Trigger, Error> {
        self.0.stock.take()
    }
}

impl<V: Vm> Route for KvmRoute<V> {
    fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    fn set(&mut self, message: Message) -> io::Result<bool> {
        if !self.shared.lock().is_current(self.gsi, message) {
            return Ok(false);
        }
        if !self.assigned {
            // KVM_IRQFD delivers a signal from before the call.
            self.shared.vm.assign(self.trigger.eventfd(), self.gsi)?;
            self.assigned = true;
        }
        Ok(true)
    }
}

impl<V: Vm> Drop for KvmRoute<V> {
    fn drop(&mut self) {
        if self.assigned
            && let Err(error) = self.shared.vm.deassign(self.trigger.eventfd(), self.gsi)
        {
            // The irqfd still raises this GSI, so the GSI must not be reused.
            tracing::warn!(%error, gsi = self.gsi, "an irqfd stays");
        } else {
            self.shared.lock().release(self.gsi);
        }
    }
}

impl<V> Shared<V> {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next_gsi(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| self.fresh.next())
    }

    /// Sets the message of a GSI. Returns true if KVM has this route already.
    fn is_current(&mut self, gsi: u32, message: Message) -> bool {
        let new = (message, State::Waiting);
        match self.routes.insert(gsi, new) {
            Some(old @ (_, State::Committed)) if old.0 == message => {
                self.routes.insert(gsi, old);
                return true;
            }
            Some((_, State::Waiting)) => {}
            Some((_, State::Committed)) | None => self.waiting = self.waiting.saturating_add(1),
        }
        false
    }

    /// Frees a GSI. The next batch removes its route from KVM.
    fn release(&mut self, gsi: u32) {
        self.free.push(gsi);
        if let Some((_, State::Waiting)) = self.routes.remove(&gsi) {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }
}
