// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! ERR and REQ: events that the host raises, with one trigger each (`CONTRACT.md`, E-01 to E-05).

use crate::abi::{Action, Data, Index, Request};
use crate::{Errno, EventHost};

/// An event of a device.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Event, EventHost, Host};
///
/// let mut sim = Sim::new();
/// let fd = sim.eventfd();
/// let trigger = sim.resolve(fd)?;
/// sim.event_set(Event::Req, Some(trigger))?;
/// sim.event_signal(Event::Req);
/// sim.event_signal(Event::Err); // ERR has no trigger.
/// assert_eq!(sim.signals(fd), 1);
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// An uncorrected error of the device.
    Err,
    /// A request of the host to release the device.
    Req,
}

impl Event {
    /// Returns the event of an index, or `None` for INTx, MSI and MSI-X.
    pub const fn from_index(index: Index) -> Option<Self> {
        match index {
            Index::Err => Some(Self::Err),
            Index::Req => Some(Self::Req),
            Index::Intx | Index::Msi | Index::Msix => None,
        }
    }

    /// Executes a request for this event. A request that returns an error has changed nothing.
    ///
    /// # Errors
    ///
    /// `ENOTTY` and `EINVAL` as in `CONTRACT.md`, E-01 to E-05. Errors of
    /// [`Host::resolve`](crate::Host::resolve) and [`EventHost::event_set`].
    pub fn set_irqs<H: EventHost>(self, host: &mut H, request: &Request<'_>) -> Result<(), Errno> {
        if request.action() != Action::Trigger {
            return Err(Errno::ENOTTY);
        }
        // The index has one vector, so that the check of the header has refused others (C-05, C-06).
        let none = request.range().count() == 0;
        match request.data() {
            Data::None if !host.event_is_set(self) => Err(Errno::EINVAL),
            Data::None if none => host.event_set(self, None),
            Data::Bool(_) | Data::Eventfd(_) if none => Err(Errno::EINVAL),
            Data::None => self.signal(host),
            Data::Bool(bools) if bools.get(0) => self.signal(host),
            Data::Bool(_) => Ok(()),
            Data::Eventfd(fds) => match fds.get(0) {
                None | Some(-1) => host.event_set(self, None),
                Some(..-1) => Err(Errno::EINVAL),
                Some(fd) => {
                    let trigger = host.resolve(fd)?;
                    host.event_set(self, Some(trigger))
                }
            },
        }
    }

    fn signal<H: EventHost>(self, host: &mut H) -> Result<(), Errno> {
        host.event_signal(self);
        Ok(())
    }
}
