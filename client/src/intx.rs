//! INTx.

use crate::capabilities::{Capabilities, ask};
use crate::event::attach;
use crate::{Action, Data, Error, Index, SetIrqs, Transport, Trigger};
use std::os::fd::AsFd;

/// INTx of a device, enabled. Each interrupt masks INTx. If INTx is still asserted at unmask, it
/// signals again (X-06). Dropping the handle disables INTx (X-03).
///
/// At most one of INTx, MSI and MSI-X is enabled (V-02).
///
/// ```
/// use vfio_irq::{Intx, Trigger, sim::Simulated};
/// use std::sync::Arc;
///
/// let device = Arc::new(Simulated::new());
/// let trigger = Trigger::new()?;
/// let intx = Intx::enable(Arc::clone(&device), &trigger)?;
/// device.assert_intx();
/// device.assert_intx(); // The first interrupt masked INTx.
/// assert_eq!(trigger.take(), 1);
/// intx.unmask()?;
/// device.assert_intx();
/// assert_eq!(trigger.take(), 1);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Debug)]
pub struct Intx<T: Transport> {
    transport: T,
    trigger: Trigger,
    resample: Option<Trigger>,
}

impl<T: Transport> Intx<T> {
    /// Enables INTx (X-04). Returns its handle.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] if the device has no interrupt pin. [`Error::Refused`] with ENODEV if
    /// the pin has no routed interrupt, and with EINVAL if MSI or MSI-X is enabled.
    pub fn enable(transport: T, trigger: impl Into<Trigger>) -> Result<Self, Error> {
        Capabilities::of(&transport, Index::Intx)?.present()?;
        let trigger = trigger.into();
        attach(&transport, Index::Intx, "enable", Some(&trigger))?;
        Ok(Self { transport, trigger, resample: None })
    }

    /// Enables INTx with a resample eventfd (X-02, X-04). Each signal of `resample` unmasks INTx.
    /// KVM's irqfd with KVM_IRQFD_FLAG_RESAMPLE takes the same pair. Returns the handle.
    ///
    /// # Errors
    ///
    /// As [`Intx::enable`]. If the host refuses the resample eventfd, INTx is disabled again.
    pub fn enable_resampled(
        transport: T,
        trigger: impl Into<Trigger>,
        resample: impl Into<Trigger>,
    ) -> Result<Self, Error> {
        let mut intx = Self::enable(transport, trigger)?;
        intx.set_resample(Some(resample.into()))?;
        Ok(intx)
    }

    /// Returns the eventfd that INTx signals.
    pub fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// Replaces the resample eventfd. With `None`, disarms it (X-02).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the device refuses the request. The previous resample eventfd is
    /// armed again.
    pub fn set_resample(&mut self, resample: Option<Trigger>) -> Result<(), Error> {
        if self.resample.is_some() {
            self.arm(None)?;
        }
        if let Err(error) = self.arm_some(resample.as_ref()) {
            let old = self.resample.take();
            if self.arm_some(old.as_ref()).is_ok() {
                self.resample = old;
            }
            return Err(error);
        }
        self.resample = resample;
        Ok(())
    }

    /// Replaces the eventfd that INTx signals.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the device refuses the request. The previous eventfd is attached
    /// again and signalled once. [`Error::Unrestored`] if that fails.
    pub fn retarget(&mut self, trigger: impl Into<Trigger>) -> Result<(), Error> {
        let trigger = trigger.into();
        if let Err(error) = attach(&self.transport, Index::Intx, "re-target", Some(&trigger)) {
            // Linux releases the old eventfd before it resolves the new one.
            let back = attach(&self.transport, Index::Intx, "attach", Some(&self.trigger));
            if back.and_then(|()| self.trigger.signal()).is_err() {
                return Err(Error::Unrestored { cause: Box::new(error), lost: vec![0] });
            }
            return Err(error);
        }
        self.trigger = trigger;
        Ok(())
    }

    /// Masks INTx (X-01).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the device refuses the request.
    pub fn mask(&self) -> Result<(), Error> {
        self.act(Action::Mask, "mask", Data::None { count: 1 })
    }

    /// Unmasks INTx (X-01). If INTx is still asserted, it signals again (X-06).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the device refuses the request.
    pub fn unmask(&self) -> Result<(), Error> {
        self.act(Action::Unmask, "unmask", Data::None { count: 1 })
    }

    /// Signals the eventfd as if the device had asserted INTx (X-05). A loopback does not mask
    /// INTx.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the device refuses the request.
    pub fn loopback(&self) -> Result<(), Error> {
        self.act(Action::Trigger, "signal", Data::None { count: 1 })
    }

    fn arm_some(&self, trigger: Option<&Trigger>) -> Result<(), Error> {
        if trigger.is_some() { self.arm(trigger) } else { Ok(()) }
    }

    fn arm(&self, trigger: Option<&Trigger>) -> Result<(), Error> {
        let fds = [trigger.map(|trigger| trigger.as_fd())];
        self.act(Action::Unmask, "unmask by eventfd", Data::Eventfd(&fds))
    }

    fn act(&self, action: Action, verb: &'static str, data: Data<'_>) -> Result<(), Error> {
        ask(&self.transport, verb, &SetIrqs { index: Index::Intx, action, start: 0, data })
    }
}

impl<T: Transport> Drop for Intx<T> {
    fn drop(&mut self) {
        if let Err(error) = self.act(Action::Trigger, "disable", Data::None { count: 0 }) {
            tracing::warn!(%error, "INTx stays enabled");
        }
    }
}
