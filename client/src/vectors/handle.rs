//! The handle of one enabled vector.

use super::state::State;
use super::{Shared, change::Changes};
use crate::{Action, Data, Error, Transport, Trigger};
use std::fmt;
use std::sync::{Arc, Weak};

/// The handle of an enabled vector. Dropping it detaches the vector. Its interrupt stays
/// allocated for the next [`crate::Vectors::enable`], until the host has none left for another
/// vector.
///
/// ```
/// use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
/// use std::sync::Arc;
/// let device = Arc::new(Simulated::new());
/// let vectors = Vectors::open(device.clone(), Index::Msix)?;
/// let (old, new) = (Trigger::new()?, Trigger::new()?);
/// let vector = vectors.enable(9, &old)?;
/// vector.retarget(&new)?;
/// device.raise(9);
/// assert_eq!((old.take(), new.take()), (0, 1));
/// vector.detach()?;
/// # Ok::<(), vfio_irq::Error>(())
/// ```
pub struct Vector<T: Transport> {
    shared: Weak<Shared<T>>,
    number: u32,
    /// The handle is stale if the state has another identifier for the vector.
    id: u64,
}

impl<T: Transport> fmt::Debug for Vector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vector").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<T: Transport> Vector<T> {
    pub(super) fn new(shared: &Arc<Shared<T>>, number: u32, id: u64) -> Self {
        Self { shared: Arc::downgrade(shared), number, id }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_of(&self, shared: &Arc<Shared<T>>) -> bool {
        self.shared.as_ptr() == Arc::as_ptr(shared)
    }

    /// Returns the number of the vector, from 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the eventfd that the vector signals.
    ///
    /// # Errors
    ///
    /// [`Error::Disabled`] if the handle is stale.
    pub fn trigger(&self) -> Result<Trigger, Error> {
        self.with(|_, state| {
            state.trigger(self.number).cloned().ok_or(Error::Disabled { number: self.number })
        })
    }

    /// Replaces the eventfd of the vector. An interrupt that arrives meanwhile signals either the
    /// old eventfd or the new one (B-02). Linux's own driver delays such an interrupt.
    ///
    /// # Errors
    ///
    /// [`Error::Disabled`] if the handle is stale, [`Error::Refused`] if the device refuses the
    /// request.
    pub fn retarget(&self, trigger: impl Into<Trigger>) -> Result<(), Error> {
        let trigger = trigger.into();
        self.with(|shared, state| {
            let changes = Changes::from([(self.number, Some(trigger.clone()))]);
            shared.change(state, &changes)?;
            state.retarget(self.number, Some(trigger));
            Ok(())
        })
    }

    /// Masks the vector. The device holds its interrupts, and unmask signals once for all of them
    /// (B-03).
    ///
    /// # Errors
    ///
    /// [`Error::Disabled`] if the handle is stale, [`Error::NotMaskable`] if the host cannot mask
    /// the vector, [`Error::Refused`].
    pub fn mask(&self) -> Result<(), Error> {
        let one = Data::None { count: 1 };
        self.with(|shared, state| shared.set_masks(state, Action::Mask, self.number, one))
    }

    /// Unmasks the vector. If the device raised it meanwhile, once or more often, it is signalled
    /// once (B-03).
    ///
    /// # Errors
    ///
    /// As [`Vector::mask`].
    pub fn unmask(&self) -> Result<(), Error> {
        let one = Data::None { count: 1 };
        self.with(|shared, state| shared.set_masks(state, Action::Unmask, self.number, one))
    }

    /// Signals the eventfd as if the device had raised the vector. A mask does not hold this
    /// signal (V-04).
    ///
    /// # Errors
    ///
    /// [`Error::Disabled`] if the handle is stale, [`Error::Refused`] if the device refuses the
    /// request.
    pub fn loopback(&self) -> Result<(), Error> {
        let one = Data::None { count: 1 };
        self.with(|shared, _| shared.request("signal", Action::Trigger, self.number, one))
    }

    /// Detaches the vector and returns an error if that fails; a drop logs the error instead. The
    /// interrupt stays allocated (V-09), until the host has none left for another vector of the
    /// device (B-04).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the device refuses the request. The vector then signals as before,
    /// until it is enabled again or the index is disabled. A stale handle detaches nothing and
    /// returns no error.
    pub fn detach(mut self) -> Result<(), Error> {
        self.let_go()
    }

    fn let_go(&mut self) -> Result<(), Error> {
        let outcome = self.with(|shared, state| {
            let detached = shared.change(state, &Changes::from([(self.number, None)]));
            match detached {
                Ok(()) => state.detach(self.number),
                Err(_) => state.orphan(self.number),
            }
            detached
        });
        self.forget();
        match outcome {
            Err(Error::Disabled { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// Makes the handle stale, so that its drop does nothing.
    pub(super) fn forget(&mut self) {
        self.shared = Weak::new();
    }

    pub(super) fn with<R>(
        &self,
        act: impl FnOnce(&Shared<T>, &mut State) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let stale = Error::Disabled { number: self.number };
        let Some(shared) = self.shared.upgrade() else { return Err(stale) };
        let mut state = shared.lock();
        if state.id(self.number) != Some(self.id) {
            return Err(stale);
        }
        act(&shared, &mut state)
    }
}

impl<T: Transport> Drop for Vector<T> {
    fn drop(&mut self) {
        if let Err(error) = self.let_go() {
            tracing::warn!(%error, "a vector stays attached");
        }
    }
}
