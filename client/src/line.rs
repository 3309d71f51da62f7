//! INTx: the interrupt line.

use crate::capabilities::{Capabilities, ask};
use crate::event::attach;
use crate::{Action, Data, Error, Index, SetIrqs, Transport, Trigger};
use std::os::fd::AsFd;

/// The device's interrupt line, enabled. It masks itself with every interrupt; unmasking it while it
/// is still asserted signals again (X-06). Dropping it disables it (X-03).
///
/// No other of INTx, MSI and MSI-X can be enabled at the same time (V-02).
///
/// ```
/// use vfio_irq::{Line, Trigger, sim::Simulated};
/// use std::sync::Arc;
///
/// let device = Arc::new(Simulated::new());
/// let trigger = Trigger::new()?;
/// let line = Line::enable(Arc::clone(&device), &trigger)?;
/// device.pull();
/// device.pull(); // masked by the first
/// assert_eq!(trigger.take(), 1);
/// line.unmask()?;
/// device.pull();
/// assert_eq!(trigger.take(), 1);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Debug)]
pub struct Line<T: Transport> {
    transport: T,
    trigger: Trigger,
    resample: Option<Trigger>,
}

impl<T: Transport> Line<T> {
    /// Enables the line (X-04).
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] where the device has no pin; [`Error::Refused`], with ENODEV where the pin
    /// leads nowhere and EINVAL while MSI or MSI-X is enabled.
    pub fn enable(transport: T, trigger: impl Into<Trigger>) -> Result<Self, Error> {
        Capabilities::of(&transport, Index::Intx)?.present()?;
        let trigger = trigger.into();
        attach(&transport, Index::Intx, "to enable", Some(&trigger))?;
        Ok(Self { transport, trigger, resample: None })
    }

    /// Enables the line together with an eventfd that unmasks it whenever it is signalled: the pair
    /// that KVM's irqfd with resampling takes.
    ///
    /// # Errors
    ///
    /// As [`Line::enable`]; the line is disabled when the second eventfd is refused.
    pub fn enable_resampled(
        transport: T,
        trigger: impl Into<Trigger>,
        resample: impl Into<Trigger>,
    ) -> Result<Self, Error> {
        let mut line = Self::enable(transport, trigger)?;
        line.set_resample(Some(resample.into()))?;
        Ok(line)
    }

    /// The eventfd that the line signals.
    pub fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// Arms an eventfd that unmasks the line, in place of the one before; `None` disarms (X-02).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; what was armed before is armed again.
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

    /// Has the line signal another eventfd.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; the old one is attached again and signalled once.
    pub fn retarget(&mut self, trigger: impl Into<Trigger>) -> Result<(), Error> {
        let trigger = trigger.into();
        if let Err(error) = attach(&self.transport, Index::Intx, "to re-target", Some(&trigger)) {
            // Linux lets the old one go before it looks at the new one.
            let back = attach(&self.transport, Index::Intx, "to attach", Some(&self.trigger));
            if back.and_then(|()| self.trigger.signal()).is_err() {
                return Err(Error::Unrestored { cause: Box::new(error), lost: vec![0] });
            }
            return Err(error);
        }
        self.trigger = trigger;
        Ok(())
    }

    /// Masks the line (X-01), as each of its interrupts does.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn mask(&self) -> Result<(), Error> {
        self.act(Action::Mask, "to mask", Data::None { count: 1 })
    }

    /// Unmasks the line, which signals again if it is still asserted.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn unmask(&self) -> Result<(), Error> {
        self.act(Action::Unmask, "to unmask", Data::None { count: 1 })
    }

    /// Signals the eventfd as if the device had pulled the line (X-05). It masks nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn loopback(&self) -> Result<(), Error> {
        self.act(Action::Trigger, "to signal", Data::None { count: 1 })
    }

    fn arm_some(&self, trigger: Option<&Trigger>) -> Result<(), Error> {
        if trigger.is_some() { self.arm(trigger) } else { Ok(()) }
    }

    fn arm(&self, trigger: Option<&Trigger>) -> Result<(), Error> {
        let fds = [trigger.map(|trigger| trigger.as_fd())];
        self.act(Action::Unmask, "to unmask by eventfd", Data::Eventfd(&fds))
    }

    fn act(&self, action: Action, verb: &'static str, data: Data<'_>) -> Result<(), Error> {
        ask(&self.transport, verb, &SetIrqs { index: Index::Intx, action, start: 0, data })
    }
}

impl<T: Transport> Drop for Line<T> {
    fn drop(&mut self) {
        if let Err(error) = self.act(Action::Trigger, "to disable", Data::None { count: 0 }) {
            tracing::warn!(%error, "the line stays enabled");
        }
    }
}
