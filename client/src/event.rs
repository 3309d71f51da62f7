//! ERR and REQ, the interrupts that the host raises.

use crate::capabilities::{Capabilities, ask};
use crate::{Action, Data, Error, Index, Name, SetIrqs, Transport, Trigger};
use std::os::fd::AsFd;

/// An eventfd on ERR or REQ. The host signals ERR for an uncorrected error of the device, and REQ
/// to ask user space to release the device. Dropping the event detaches the eventfd.
///
/// ```
/// use vfio_irq::{Event, Index, Trigger, sim::Simulated};
///
/// let release = Trigger::new()?;
/// let event = Event::open(Simulated::new(), Index::Req, &release)?;
/// event.loopback()?;
/// assert_eq!(release.take(), 1);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Debug)]
pub struct Event<T: Transport> {
    transport: T,
    index: Index,
    trigger: Trigger,
}

impl<T: Transport> Event<T> {
    /// Attaches an eventfd to the event, and replaces the previous eventfd, if any (E-03).
    /// Returns the handle.
    ///
    /// # Errors
    ///
    /// [`Error::WrongIndex`] if the index is neither ERR nor REQ, [`Error::Absent`] if the device
    /// has no such event, [`Error::Refused`] if the device refuses the request.
    pub fn open(transport: T, index: Index, trigger: impl Into<Trigger>) -> Result<Self, Error> {
        if !matches!(index, Index::Err | Index::Req) {
            return Err(Error::WrongIndex { index: Name(index), takes: "ERR or REQ" });
        }
        Capabilities::of(&transport, index)?.present()?;
        let trigger = trigger.into();
        attach(&transport, index, "attach", Some(&trigger))?;
        Ok(Self { transport, index, trigger })
    }

    /// Returns the eventfd.
    pub fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// Replaces the eventfd of the event (E-03).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the device refuses the request. The previous eventfd stays attached.
    pub fn retarget(&mut self, trigger: impl Into<Trigger>) -> Result<(), Error> {
        let trigger = trigger.into();
        attach(&self.transport, self.index, "re-target", Some(&trigger))?;
        self.trigger = trigger;
        Ok(())
    }

    /// Signals the eventfd as if the event had happened (E-04).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the device refuses the request.
    pub fn loopback(&self) -> Result<(), Error> {
        let data = Data::None { count: 1 };
        let request = SetIrqs { index: self.index, action: Action::Trigger, start: 0, data };
        ask(&self.transport, "signal", &request)
    }
}

impl<T: Transport> Drop for Event<T> {
    fn drop(&mut self) {
        if let Err(error) = attach(&self.transport, self.index, "detach", None) {
            tracing::warn!(%error, "an event stays attached");
        }
    }
}

/// Attaches an eventfd to an index with one interrupt. With `None`, detaches it. Returns the
/// error of the device.
pub(crate) fn attach<T: Transport>(
    transport: &T,
    index: Index,
    verb: &'static str,
    trigger: Option<&Trigger>,
) -> Result<(), Error> {
    let fds = [trigger.map(|trigger| trigger.as_fd())];
    let data = Data::Eventfd(&fds);
    ask(transport, verb, &SetIrqs { index, action: Action::Trigger, start: 0, data })
}
