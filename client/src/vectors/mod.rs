//! MSI and MSI-X.

mod by_number;
mod change;
mod handle;
mod masks;
mod rebuild;
mod state;

pub use handle::Vector;

use crate::capabilities::{Capabilities, ask};
use crate::{Action, Data, Error, Index, Name, SetIrqs, Transport, Trigger};
use state::{Mode, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The policy for a host that cannot add a vector to an enabled index (NORESIZE: MSI on every
/// host, MSI-X on Linux before 6.5). Other hosts ignore the policy.
///
/// ```
/// use vfio_irq::{Index, NoResize, Trigger, Vectors, sim::{IrqCaps, Simulated}};
/// let old = Simulated::with(IrqCaps { dynamic: false, ..IrqCaps::default() });
/// let vectors = Vectors::with_policy(old, Index::Msix, NoResize::ReserveAll { most: 16 })?;
/// let first = vectors.enable(0, Trigger::new()?)?;
/// assert_eq!(vectors.transport().allocated(), 16);
/// let later = vectors.enable(15, Trigger::new()?)?; // Vector 0 is not disturbed.
/// let beyond = vectors.enable(16, Trigger::new()?).unwrap_err();
/// assert!(beyond.to_string().starts_with("vector 16 of MSI-X is beyond the 16 that were reserved"));
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoResize {
    /// The first enable allocates the whole table, at most `most` vectors. If the host has fewer,
    /// it allocates all that the host has. Later enables need no allocation, so that no attached
    /// vector is disturbed. A vector beyond the reserve returns [`Error::BeyondReserved`].
    ReserveAll {
        /// Maximum number of vectors. If the first enable names a higher vector, the library
        /// allocates up to that vector. [`Vectors::activate`] names none, so it allocates `most`
        /// vectors, and a vector beyond returns [`Error::BeyondReserved`].
        most: u32,
    },
    /// The first enable allocates up to its highest vector, and `spare` vectors more. For a
    /// vector beyond, the library disables the index. It then enables the index with more
    /// vectors, and restores eventfds and masks. Afterwards it signals every vector that was
    /// enabled once, since an interrupt in between signalled no eventfd. A masked vector is
    /// signalled at unmask.
    Reenable {
        /// Number of vectors that are allocated in addition, so that later enables need no
        /// allocation.
        spare: u32,
    },
}

impl Default for NoResize {
    /// Returns a reserve of the whole table: no vector is ever disturbed.
    fn default() -> Self {
        Self::ReserveAll { most: u32::MAX }
    }
}

/// MSI or MSI-X of one device. The [crate] documentation states what holds on every host.
///
/// Threads can share it; its requests are serialized. Dropping it disables the index, and the
/// remaining [`Vector`] handles become stale.
///
/// ```
/// use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
///
/// let vectors = Vectors::open(Simulated::new(), Index::Msix)?;
/// assert!(vectors.capabilities().resizable());
/// let handles = vectors.enable_many([(0, Trigger::new()?), (1, Trigger::new()?)])?;
/// assert_eq!(vectors.enabled(), [0, 1]);
/// drop(handles);
/// assert!(vectors.enabled().is_empty());
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Debug)]
pub struct Vectors<T: Transport>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    transport: T,
    capabilities: Capabilities,
    policy: NoResize,
    state: Mutex<State>,
}

impl<T: Transport> Vectors<T> {
    /// Opens MSI or MSI-X. No vector is enabled yet. Returns the handle of the index.
    ///
    /// # Errors
    ///
    /// [`Error::WrongIndex`] for another index, [`Error::Absent`] if the device has no such
    /// vectors, [`Error::Refused`] if the device refuses the query.
    pub fn open(transport: T, index: Index) -> Result<Self, Error> {
        Self::with_policy(transport, index, NoResize::default())
    }

    /// Opens MSI or MSI-X with a policy for hosts that cannot add vectors. Returns the handle of
    /// the index.
    ///
    /// # Errors
    ///
    /// As [`Vectors::open`].
    pub fn with_policy(transport: T, index: Index, policy: NoResize) -> Result<Self, Error> {
        if !matches!(index, Index::Msi | Index::Msix) {
            return Err(Error::WrongIndex { index: Name(index), takes: "MSI or MSI-X" });
        }
        let capabilities = Capabilities::of(&transport, index)?.present()?;
        let state = Mutex::default();
        Ok(Self(Arc::new(Shared { transport, capabilities, policy, state })))
    }

    /// Returns the capabilities that the host reported at open.
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// Returns the device.
    pub fn transport(&self) -> &T {
        &self.0.transport
    }

    /// Returns the enabled vectors, in order.
    pub fn enabled(&self) -> Vec<u32> {
        self.0.lock().attached().map(|(number, _)| number).collect()
    }

    /// Returns true if the index is enabled. It stays enabled after its last vector is detached
    /// (V-09). [`Vectors::disable`] frees its interrupts.
    pub fn is_active(&self) -> bool {
        self.0.lock().mode != Mode::Idle
    }

    /// Enables a vector: its interrupts signal `trigger`. Other vectors are not disturbed (V-05
    /// for the first vector, V-08 for others). Vectors count from 0. Returns the handle of the
    /// vector. An enabled vector without a handle ([`Vector::keep`]) is re-targeted.
    ///
    /// # Errors
    ///
    /// - [`Error::NoSuchVector`] if the vector is beyond the table, [`Error::AlreadyEnabled`] if a
    ///   handle holds it.
    /// - [`Error::TooFew`] or [`Error::Refused`] with ENOSPC if the host has no interrupt
    ///   left.
    /// - [`Error::BeyondReserved`] on a host that cannot add vectors.
    /// - [`Error::Refused`] with EINVAL while another of INTx, MSI and MSI-X is enabled.
    pub fn enable(&self, number: u32, trigger: impl Into<Trigger>) -> Result<Vector<T>, Error> {
        let mut handles = self.enable_many([(number, trigger)])?;
        handles.pop().ok_or(Error::Disabled { number })
    }

    /// Enables many vectors, all or none (B-01). Returns their handles in the order of `wanted`.
    ///
    /// Adjacent vectors share a request. Other vectors take several requests, and the first of
    /// them can signal before the last succeeds. If a later request fails, the library detaches
    /// the vectors of the earlier ones. Their interrupts stay allocated until the index is
    /// disabled.
    ///
    /// # Errors
    ///
    /// As [`Vectors::enable`], and [`Error::Duplicate`].
    pub fn enable_many<W, I>(&self, wanted: W) -> Result<Vec<Vector<T>>, Error>
    where
        W: IntoIterator<Item = (u32, I)>,
        I: Into<Trigger>,
    {
        let mut numbers = Vec::new();
        let mut changes = BTreeMap::new();
        for (number, trigger) in wanted {
            self.0.check(number)?;
            if changes.insert(number, Some(trigger.into())).is_some() {
                return Err(Error::Duplicate { index: self.0.name(), number });
            }
            numbers.push(number);
        }
        let mut state = self.0.lock();
        if let Some(number) = changes.keys().copied().find(|number| state.id(*number).is_some()) {
            return Err(Error::AlreadyEnabled { index: self.0.name(), number });
        }
        self.0.change(&mut state, &changes)?;
        let handle = |number| {
            let id = state.attach(number, changes.remove(&number)??);
            Some(Vector::new(&self.0, number, id))
        };
        Ok(numbers.into_iter().filter_map(handle).collect())
    }

    /// Replaces the eventfds of many vectors, all or none (V-07, B-01).
    ///
    /// # Errors
    ///
    /// [`Error::Duplicate`]; [`Error::Disabled`] if a handle is stale or belongs to another device;
    /// [`Error::Refused`].
    pub fn retarget_many<'v, W, I>(&self, wanted: W) -> Result<(), Error>
    where
        W: IntoIterator<Item = (&'v Vector<T>, I)>,
        I: Into<Trigger>,
        T: 'v,
    {
        let mut state = self.0.lock();
        let mut changes = BTreeMap::new();
        for (vector, trigger) in wanted {
            let number = vector.number();
            if !vector.is_of(&self.0) || state.id(number) != Some(vector.id()) {
                return Err(Error::Disabled { number });
            }
            if changes.insert(number, Some(trigger.into())).is_some() {
                return Err(Error::Duplicate { index: self.0.name(), number });
            }
        }
        self.0.change(&mut state, &changes)?;
        changes.into_iter().for_each(|(number, trigger)| state.retarget(number, trigger));
        Ok(())
    }

    /// Enables the index with no vector attached (V-09). If the index is enabled, does nothing.
    ///
    /// A device whose guest sets MSI-X Enable needs this: Linux enables MSI-X with all vectors
    /// masked, and reads message control back. The host allocates vector 0, or the reserve of
    /// [`NoResize`].
    ///
    /// ```
    /// use vfio_irq::{Index, Vectors, sim::Simulated};
    /// let vectors = Vectors::open(Simulated::new(), Index::Msix)?;
    /// vectors.activate()?;
    /// assert!(vectors.is_active() && vectors.enabled().is_empty());
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TooFew`] if the host has no interrupt left, or [`Error::Refused`]. The index stays
    /// disabled.
    pub fn activate(&self) -> Result<(), Error> {
        self.0.activate(&mut self.0.lock())
    }

    /// Disables the index: clears every mask and frees every interrupt (V-03). The remaining
    /// handles become stale. If the index is not enabled, does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the device refuses the request.
    pub fn disable(&self) -> Result<(), Error> {
        self.0.disable(&mut self.0.lock())
    }
}

impl<T: Transport> Drop for Vectors<T> {
    fn drop(&mut self) {
        if let Err(error) = self.disable() {
            tracing::warn!(%error, "vectors stay enabled");
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state changes only after the host executed a request. A panic therefore leaves it
        // valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> Index {
        self.capabilities.index()
    }

    fn name(&self) -> Name {
        Name(self.index())
    }

    fn check(&self, number: u32) -> Result<(), Error> {
        let count = self.capabilities.count();
        if number < count {
            return Ok(());
        }
        Err(Error::NoSuchVector { index: self.name(), number, count })
    }
}

impl<T: Transport> Shared<T> {
    fn request(
        &self,
        verb: &'static str,
        action: Action,
        start: u32,
        data: Data<'_>,
    ) -> Result<(), Error> {
        ask(&self.transport, verb, &SetIrqs { index: self.index(), action, start, data })
    }

    fn disable(&self, state: &mut State) -> Result<(), Error> {
        if state.mode != Mode::Idle {
            self.disable_index()?;
        }
        state.clear();
        Ok(())
    }

    fn disable_index(&self) -> Result<(), Error> {
        self.request("disable", Action::Trigger, 0, Data::None { count: 0 })
    }

    /// Signals each of these vectors once, as if it had raised an interrupt. A masked vector is
    /// signalled at unmask.
    fn signal_once(&self, state: &mut State, numbers: &BTreeSet<u32>) {
        for number in numbers {
            if let Some(error) = state.owe(*number).and_then(|trigger| trigger.signal().err()) {
                tracing::warn!(%error, number, "a vector that was attached again");
            }
        }
    }
}
