//! The routes of a VM: GSIs are allocated on first use, and committed in batches.

use super::{Message, Route, Vm};
use crate::Error;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The fewest changes that make a batch.
const LEAST_BATCH: usize = 16;

/// All interrupt routes of a VM. KVM replaces its routes as one table. A VM therefore has one
/// `Routes`, which the tables of all its devices share.
///
/// ```
/// use std::sync::Arc;
/// use vfio_irq::kvm::{MsixTable, Route, Routes};
/// use vfio_irq::{Index, Vectors, sim::{Simulated, SimulatedVm}};
/// let vm = Arc::new(SimulatedVm::new());
/// // Every commit includes the pins of the VMM.
/// let pin = |gsi| Route::Pin { gsi, chip: kvm_bindings::KVM_IRQCHIP_IOAPIC, pin: gsi };
/// let routes = Routes::new(Arc::clone(&vm), (0..24).map(pin).collect(), 24..4096);
/// let vectors = Vectors::open(Simulated::new(), Index::Msix)?;
/// let mut table = MsixTable::new(vectors, Arc::new(routes))?;
/// table.set_control(0x8000)?;
/// table.write(12, &0_u32.to_le_bytes())?; // The guest unmasks vector 0.
/// table.commit()?;
/// assert_eq!(vm.routes().len(), 24 + 1);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Debug)]
pub struct Routes<V> {
    vm: V,
    fixed: Vec<Route>,
    inner: Mutex<Inner>,
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

impl<V: Vm> Routes<V> {
    /// Returns the routes of a VM. `fixed` are routes that every commit includes (pins). `gsis`
    /// are the GSIs to allocate.
    pub fn new(vm: V, fixed: Vec<Route>, gsis: Range<u32>) -> Self {
        let inner = Inner {
            routes: BTreeMap::new(),
            free: Vec::new(),
            fresh: gsis,
            waiting: 0,
            batch: LEAST_BATCH,
        };
        Self { vm, fixed, inner: Mutex::new(inner) }
    }

    /// Returns the VM.
    pub fn vm(&self) -> &V {
        &self.vm
    }

    /// Returns the number of routes that KVM has not received. Until the next commit, user space
    /// sends the messages of their vectors.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Returns true if enough routes wait for a batch: as many as there are routes. Each route is
    /// therefore committed twice on average, for any number of vectors.
    pub fn is_due(&self) -> bool {
        let inner = self.lock();
        inner.waiting >= inner.batch
    }

    /// Replaces the routes of KVM, if any wait. [`super::MsixTable::commit`] also moves the
    /// vectors of its table.
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`] if KVM refuses the routes. All vectors work as before, and the next batch
    /// tries again.
    pub fn commit(&self) -> Result<(), Error> {
        let mut inner = self.lock();
        if inner.waiting == 0 {
            return Ok(());
        }
        let messages = inner.routes.iter();
        let messages =
            messages.map(|(gsi, (message, _))| Route::Message { gsi: *gsi, message: *message });
        let all: Vec<Route> = self.fixed.iter().copied().chain(messages).collect();
        tracing::debug!(routes = all.len(), waiting = inner.waiting, "KVM_SET_GSI_ROUTING");
        if let Err(source) = self.vm.set_routes(&all) {
            inner.batch = inner.waiting.saturating_mul(2);
            return Err(Error::Kvm { what: "new interrupt routes", source });
        }
        inner.routes.values_mut().for_each(|(_, state)| *state = State::Committed);
        inner.waiting = 0;
        inner.batch = inner.routes.len().max(LEAST_BATCH);
        Ok(())
    }

    /// Allocates a GSI for a message. Returns `None` if all GSIs are in use.
    pub(super) fn allocate(&self, message: Message) -> Option<u32> {
        let mut inner = self.lock();
        let gsi = inner.free.pop().or_else(|| inner.fresh.next())?;
        inner.routes.insert(gsi, (message, State::Waiting));
        inner.waiting = inner.waiting.saturating_add(1);
        Some(gsi)
    }

    /// Sets the message of a GSI. Returns true if KVM has this route already.
    pub(super) fn is_current(&self, gsi: u32, message: Message) -> bool {
        let mut inner = self.lock();
        let Inner { routes, waiting, .. } = &mut *inner;
        let Some((old, state)) = routes.get_mut(&gsi) else { return false };
        if *old != message {
            *old = message;
            if std::mem::replace(state, State::Waiting) == State::Committed {
                *waiting = waiting.saturating_add(1);
            }
        }
        *state == State::Committed
    }

    /// Frees a GSI. The next batch removes its route from KVM.
    pub(super) fn release(&self, gsi: u32) {
        let mut inner = self.lock();
        if let Some((_, state)) = inner.routes.remove(&gsi) {
            inner.free.push(gsi);
            if state == State::Waiting {
                inner.waiting = inner.waiting.saturating_sub(1);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
