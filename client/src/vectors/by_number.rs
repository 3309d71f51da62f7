//! Vectors by their number, for a VMM that keeps no handles.

use super::change::Changes;
use super::{Vector, Vectors};
use crate::{Error, Transport};
use std::collections::BTreeSet;

impl<T: Transport> Vector<T> {
    /// Leaves the vector enabled without a handle. [`Vectors::enable`] re-targets it and returns a
    /// new handle; [`Vectors::detach`] detaches it.
    ///
    /// ```
    /// use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
    /// let vectors = Vectors::open(Simulated::new(), Index::Msix)?;
    /// vectors.enable(3, Trigger::new()?)?.keep();
    /// assert!(vectors.is_enabled(3));
    /// let other = Trigger::new()?;
    /// vectors.enable(3, &other)?.keep(); // Re-targets it.
    /// vectors.transport().raise(3);
    /// assert_eq!(other.take(), 1);
    /// vectors.detach(3)?;
    /// assert!(!vectors.is_enabled(3));
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn keep(mut self) {
        // A stale handle holds no vector.
        let _ = self.with(|_, state| {
            state.orphan(self.number());
            Ok(())
        });
        self.forget();
    }
}

impl<T: Transport> Vectors<T> {
    /// Returns true if the vector is enabled, with a handle or without one.
    pub fn is_enabled(&self, number: u32) -> bool {
        self.0.lock().trigger(number).is_some()
    }

    /// Detaches a vector. Its interrupt stays allocated (V-09). If the vector has a handle, the
    /// handle becomes stale. If the vector is not enabled, does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVector`]; [`Error::Refused`] if the device refuses the request. The vector
    /// then signals as before.
    pub fn detach(&self, number: u32) -> Result<(), Error> {
        self.0.check(number)?;
        let mut state = self.0.lock();
        if state.trigger(number).is_some() {
            self.0.change(&mut state, &Changes::from([(number, None)]))?;
            state.detach(number);
        }
        Ok(())
    }

    /// Attaches every enabled vector again, with its eventfd and its mask, and signals it once.
    ///
    /// A reset that the kernel performs leaves the vectors working (V-12), and needs no call. A
    /// reset that the kernel does not see, such as by a register of the device, clears the
    /// messages of the device's MSI-X table, and its vectors are dead until this call. An
    /// interrupt in between signalled no eventfd.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the device refuses a request. Vectors that could not be attached
    /// again are named by [`Error::Unrestored`].
    pub fn rearm(&self) -> Result<(), Error> {
        let mut state = self.0.lock();
        self.0.restore_masks(&state)?;
        let enabled: Changes =
            state.attached().map(|(number, trigger)| (number, Some(trigger.clone()))).collect();
        self.0.change(&mut state, &enabled)?;
        let numbers: BTreeSet<u32> = enabled.into_keys().collect();
        self.0.signal_once(&mut state, &numbers);
        Ok(())
    }
}
