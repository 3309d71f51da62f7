//! The interrupts that the host itself raises: ERR and REQ.

use crate::capabilities::{Capabilities, ask};
use crate::{Action, Data, Error, Index, Name, SetIrqs, Transport, Trigger};
use std::os::fd::AsFd;

/// An eventfd on ERR (the device met an error that the host will not repair) or on REQ (the host
/// asks for the device back). Dropping it takes the eventfd away.
///
/// ```
/// use vfio_irq::{Event, Index, Trigger, sim::Simulated};
///
/// let please_leave = Trigger::new()?;
/// let event = Event::open(Simulated::new(), Index::Req, &please_leave)?;
/// event.loopback()?;
/// assert_eq!(please_leave.take(), 1);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Debug)]
pub struct Event<T: Transport> {
    transport: T,
    index: Index,
    trigger: Trigger,
}

impl<T: Transport> Event<T> {
    /// Has the event signal an eventfd, in place of one that is there (E-03).
    ///
    /// # Errors
    ///
    /// [`Error::WrongIndex`] unless the index is ERR or REQ, [`Error::Absent`] where the device has
    /// no such event, [`Error::Refused`].
    pub fn open(transport: T, index: Index, trigger: impl Into<Trigger>) -> Result<Self, Error> {
        if !matches!(index, Index::Err | Index::Req) {
            return Err(Error::WrongIndex { index: Name(index), takes: "ERR or REQ" });
        }
        Capabilities::of(&transport, index)?.present()?;
        let trigger = trigger.into();
        attach(&transport, index, "to attach", Some(&trigger))?;
        Ok(Self { transport, index, trigger })
    }

    /// The eventfd.
    pub fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// Has the event signal another eventfd.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; the old one is still there.
    pub fn retarget(&mut self, trigger: impl Into<Trigger>) -> Result<(), Error> {
        let trigger = trigger.into();
        attach(&self.transport, self.index, "to re-target", Some(&trigger))?;
        self.trigger = trigger;
        Ok(())
    }

    /// Signals the eventfd as if the event had happened (E-04).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn loopback(&self) -> Result<(), Error> {
        let data = Data::None { count: 1 };
        let request = SetIrqs { index: self.index, action: Action::Trigger, start: 0, data };
        ask(&self.transport, "to signal", &request)
    }
}

impl<T: Transport> Drop for Event<T> {
    fn drop(&mut self) {
        if let Err(error) = attach(&self.transport, self.index, "to detach", None) {
            tracing::warn!(%error, "an event keeps its eventfd");
        }
    }
}

/// Puts an eventfd on an index with one interrupt, or takes it away.
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
