//! MSI and MSI-X.

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

/// What to do on a host that cannot add a vector to those in use (it says NORESIZE: MSI everywhere,
/// MSI-X on Linux before 6.5). Hosts that can are not touched by it.
///
/// ```
/// use vfio_irq::{Index, NoResize, Trigger, Vectors, sim::{IrqCaps, Simulated}};
/// let old = Simulated::with(IrqCaps { dynamic: false, ..IrqCaps::default() });
/// let vectors = Vectors::with_policy(old, Index::Msix, NoResize::ReserveAll { most: 16 })?;
/// let first = vectors.enable(0, Trigger::new()?)?;
/// assert_eq!(vectors.transport().allocated(), 16);
/// let later = vectors.enable(15, Trigger::new()?)?; // the first does not notice
/// let beyond = vectors.enable(16, Trigger::new()?).unwrap_err();
/// assert!(beyond.to_string().starts_with("vector 16 of MSI-X is beyond the 16 that were reserved"));
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoResize {
    /// The first enable allocates the whole table, `most` vectors of it at most; if the host has
    /// fewer, what it has. Later ones find theirs allocated, and nobody notices anything. A vector
    /// beyond is [`Error::BeyondReserved`].
    ReserveAll {
        /// How many at most; more only if the first enable names more.
        most: u32,
    },
    /// The first enable allocates up to the highest vector it names, and `spare` more. To go beyond,
    /// the index is disabled and enabled larger, all vectors with their eventfds and masks; then
    /// every vector that was enabled is signalled once, so that no waiter sleeps on an interrupt that
    /// found nobody. (One that is masked is signalled when it is unmasked.)
    Reenable {
        /// Vectors that are allocated beyond, so that the next ones cost nothing.
        spare: u32,
    },
}

impl Default for NoResize {
    /// The whole table: no vector is ever disturbed.
    fn default() -> Self {
        Self::ReserveAll { most: u32::MAX }
    }
}

/// MSI or MSI-X of one device. See the [crate] for what holds on every host.
///
/// It can be shared between threads; requests are made one after the other. Dropping it disables the
/// index, and the [`Vector`]s that are left are stale.
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
    /// Opens MSI or MSI-X; nothing is enabled yet.
    ///
    /// # Errors
    ///
    /// [`Error::WrongIndex`] for another index, [`Error::Absent`] when the device has no such
    /// vectors, [`Error::Refused`] when it does not answer.
    pub fn open(transport: T, index: Index) -> Result<Self, Error> {
        Self::with_policy(transport, index, NoResize::default())
    }

    /// The same, saying what to do on a host that cannot add vectors.
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

    /// What the host said when the index was opened: how many vectors, added at any time or not,
    /// maskable or not.
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// The device, for whatever else is asked of it.
    pub fn transport(&self) -> &T {
        &self.0.transport
    }

    /// The vectors that are enabled, in order.
    pub fn enabled(&self) -> Vec<u32> {
        self.0.lock().attached().map(|(number, _)| number).collect()
    }

    /// Whether the index is enabled, which it stays when its last vector is detached: to give back
    /// everything, [`Vectors::disable`].
    pub fn is_active(&self) -> bool {
        self.0.lock().mode != Mode::Idle
    }

    /// Enables a vector: its interrupts signal `trigger` from now on, and the others go on (V-05 for
    /// the first, V-08 for the others). Vectors are counted from 0.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVector`], [`Error::Enabled`]; [`Error::TooFew`] or [`Error::Refused`] with
    /// ENOSPC when the host has no interrupt left; [`Error::BeyondReserved`] on a host that cannot
    /// add vectors; [`Error::Refused`] with EINVAL while INTx or the other of MSI and MSI-X is
    /// enabled.
    pub fn enable(&self, number: u32, trigger: impl Into<Trigger>) -> Result<Vector<T>, Error> {
        let mut handles = self.enable_many([(number, trigger)])?;
        handles.pop().ok_or(Error::Disabled { number })
    }

    /// Enables many vectors, all or none (B-01). The handles come in the order of `wanted`.
    ///
    /// Neighbours go into one request; vectors that are none take several, and until the last is
    /// through some signal already. When a later one fails, those that came before are detached, and
    /// only their host interrupts stay allocated until the index is disabled.
    ///
    /// # Errors
    ///
    /// As [`Vectors::enable`], and [`Error::Twice`].
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
                return Err(Error::Twice { index: self.0.name(), number });
            }
            numbers.push(number);
        }
        let mut state = self.0.lock();
        if let Some(number) = changes.keys().copied().find(|number| state.id(*number).is_some()) {
            return Err(Error::Enabled { index: self.0.name(), number });
        }
        self.0.change(&mut state, &changes)?;
        for (number, trigger) in changes {
            state.attach(number, trigger);
        }
        let handle = |number| Vector::new(&self.0, number, state.id(number));
        Ok(numbers.into_iter().map(handle).collect())
    }

    /// Has many vectors signal other eventfds, all or none (V-07, B-01).
    ///
    /// # Errors
    ///
    /// [`Error::Twice`]; [`Error::Disabled`] for a handle that is stale or of another device;
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
            if !vector.is_of(&self.0) || state.id(number) != vector.id() {
                return Err(Error::Disabled { number });
            }
            if changes.insert(number, Some(trigger.into())).is_some() {
                return Err(Error::Twice { index: self.0.name(), number });
            }
        }
        self.0.change(&mut state, &changes)?;
        changes.into_iter().for_each(|(number, trigger)| state.retarget(number, trigger));
        Ok(())
    }

    /// Disables the index: every vector and every mask is gone, every interrupt given back to the
    /// host, and the handles that are left are stale (V-03). Nothing happens when it is not enabled.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
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
        // A panic elsewhere leaves the state whole: it changes only after the host has agreed.
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
        self.request("to disable", Action::Trigger, 0, Data::None { count: 0 })
    }

    /// Signals these as if each had had an interrupt.
    fn signal_once(&self, state: &mut State, numbers: &BTreeSet<u32>) {
        for number in numbers {
            if let Some(error) = state.owe(*number).and_then(|trigger| trigger.signal().err()) {
                tracing::warn!(%error, number, "a vector that was attached again");
            }
        }
    }
}
