//! Masking, where the host says MASKABLE.

use super::state::{Mask, State};
use super::{Shared, Vectors};
use crate::{Action, Data, Error, Transport, Trigger};

impl<T: Transport> Vectors<T> {
    /// Masks neighbours: their interrupts are held by the device, and each is signalled once when it
    /// is unmasked. A vector can be masked before it is enabled, and stays masked when it is
    /// detached or re-targeted; disabling the index clears masks (B-03).
    ///
    /// # Errors
    ///
    /// [`Error::NotMaskable`], [`Error::NoSuchVector`]; [`Error::Refused`] with EINVAL while the
    /// index is not active.
    ///
    /// ```
    /// # use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
    /// # use std::sync::Arc;
    /// # let device = Arc::new(Simulated::new());
    /// # let vectors = Vectors::open(device.clone(), Index::Msix)?;
    /// # let vector = vectors.enable(2, Trigger::new()?)?;
    /// vectors.mask(0, 4)?;
    /// device.raise(2);
    /// assert_eq!(vector.trigger()?.take(), 0);
    /// vectors.unmask(0, 4)?;
    /// assert_eq!(vector.trigger()?.take(), 1);
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn mask(&self, start: u32, count: u32) -> Result<(), Error> {
        let mut state = self.0.lock();
        self.0.set_masks(&mut state, Action::Mask, start, Data::None { count })
    }

    /// Unmasks neighbours. One whose interrupt was held is signalled.
    ///
    /// # Errors
    ///
    /// As [`Vectors::mask`].
    ///
    /// ```
    /// # use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
    /// # use std::sync::Arc;
    /// # let device = Arc::new(Simulated::new());
    /// # let vectors = Vectors::open(Arc::clone(&device), Index::Msix)?;
    /// # let vector = vectors.enable(2, Trigger::new()?)?;
    /// vectors.mask(0, 8)?;
    /// vectors.unmask(0, 2)?; // 2 to 7 stay masked
    /// device.raise(2);
    /// assert!(!vector.trigger()?.is_signalled());
    /// assert!(vectors.unmask(60, 5).is_err(), "MSI-X has no vector 64");
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn unmask(&self, start: u32, count: u32) -> Result<(), Error> {
        let mut state = self.0.lock();
        self.0.set_masks(&mut state, Action::Unmask, start, Data::None { count })
    }

    /// Masks those of the vectors from `start` on whose `chosen` is true, in one request.
    ///
    /// # Errors
    ///
    /// As [`Vectors::mask`].
    ///
    /// ```
    /// # use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
    /// # let vectors = Vectors::open(Simulated::new(), Index::Msix)?;
    /// # let vector = vectors.enable(0, Trigger::new()?)?;
    /// vectors.mask_chosen(8, &[true, false, true])?; // 8 and 10
    /// assert_eq!(vectors.transport().requests(), 2, "after the one that enabled");
    /// let error = vectors.mask_chosen(63, &[false, true]).unwrap_err();
    /// assert_eq!(error.to_string(), "MSI-X has no vector 64: it has 64, counted from 0");
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn mask_chosen(&self, start: u32, chosen: &[bool]) -> Result<(), Error> {
        let mut state = self.0.lock();
        self.0.set_masks(&mut state, Action::Mask, start, Data::Bool(chosen))
    }

    /// Unmasks those of the vectors from `start` on whose `chosen` is true, in one request.
    ///
    /// # Errors
    ///
    /// As [`Vectors::mask`].
    ///
    /// ```
    /// # use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
    /// # use std::sync::Arc;
    /// # let device = Arc::new(Simulated::new());
    /// # let vectors = Vectors::open(Arc::clone(&device), Index::Msix)?;
    /// # let handles = vectors.enable_many([(0, Trigger::new()?), (1, Trigger::new()?)])?;
    /// vectors.mask(0, 2)?;
    /// (0..2).for_each(|number| device.raise(number));
    /// vectors.unmask_chosen(0, &[false, true])?;
    /// assert!(!handles[0].trigger()?.is_signalled());
    /// assert!(handles[1].trigger()?.is_signalled());
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn unmask_chosen(&self, start: u32, chosen: &[bool]) -> Result<(), Error> {
        let mut state = self.0.lock();
        self.0.set_masks(&mut state, Action::Unmask, start, Data::Bool(chosen))
    }
}

/// The vectors that a request means.
fn meant(start: u32, data: Data<'_>) -> Vec<u32> {
    match data {
        Data::None { count } => (start..start.saturating_add(count)).collect(),
        Data::Bool(chosen) => {
            (start..).zip(chosen).filter(|(_, yes)| **yes).map(|(number, _)| number).collect()
        }
        Data::Eventfd(_) => Vec::new(),
    }
}

impl<T: Transport> Shared<T> {
    fn maskable(&self) -> Result<(), Error> {
        if self.capabilities.maskable() {
            return Ok(());
        }
        Err(Error::NotMaskable { index: self.name() })
    }

    pub(super) fn set_masks(
        &self,
        state: &mut State,
        action: Action,
        start: u32,
        data: Data<'_>,
    ) -> Result<(), Error> {
        self.maskable()?;
        let count = match data {
            Data::None { count } => count,
            Data::Bool(chosen) => u32::try_from(chosen.len()).unwrap_or(u32::MAX),
            Data::Eventfd(_) => 0,
        };
        let Some(last) = count.checked_sub(1) else { return Ok(()) };
        self.check(start.saturating_add(last))?;
        let verb = if action == Action::Mask { "to mask" } else { "to unmask" };
        self.request(verb, action, start, data)?;
        for number in meant(start, data) {
            let slot = state.slots.entry(number).or_default();
            let before = slot.mask;
            slot.mask = match (action, before) {
                (Action::Mask, Mask::Open) => Mask::Closed,
                (Action::Mask, closed) => closed,
                _ => Mask::Open,
            };
            let due = slot.mask == Mask::Open && before == Mask::Owed;
            let told = slot.trigger().filter(|_| due).map_or(Ok(()), Trigger::signal);
            if let Err(error) = told {
                tracing::warn!(%error, number, "a vector that was attached again");
            }
            state.prune(number);
        }
        Ok(())
    }
}
