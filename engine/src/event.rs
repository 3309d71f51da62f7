// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! ERR and REQ: an event that the host raises, one trigger each (`CONTRACT.md`, E-01 to E-05).

use crate::abi::{Action, Data, Request};
use crate::{Errno, LineHost};

pub(crate) enum Event<T> {
    Unset,
    Set(T),
}

impl<T> Event<T> {
    pub(crate) fn set_irqs<H: LineHost<Trigger = T>>(
        &mut self,
        host: &mut H,
        request: &Request<'_>,
    ) -> Result<(), Errno> {
        if request.action() != Action::Trigger {
            return Err(Errno::ENOTTY);
        }
        let range = request.range();
        if range.start() != 0 || range.count() > 1 {
            return Err(Errno::EINVAL);
        }
        match (request.data(), range.count(), &*self) {
            (Data::None, _, Self::Unset) => Err(Errno::EINVAL),
            (Data::None, 0, Self::Set(_)) => {
                *self = Self::Unset;
                Ok(())
            }
            (Data::None, _, Self::Set(_)) => {
                self.raise(host);
                Ok(())
            }
            (Data::Bool(_) | Data::Eventfd(_), 0, _) => Err(Errno::EINVAL),
            (Data::Bool(bools), _, _) => {
                if bools.get(0) {
                    self.raise(host);
                }
                Ok(())
            }
            (Data::Eventfd(fds), _, _) => match fds.get(0).unwrap_or(-1) {
                -1 => {
                    *self = Self::Unset;
                    Ok(())
                }
                fd if fd < -1 => Err(Errno::EINVAL),
                fd => {
                    *self = Self::Set(host.resolve(fd)?);
                    Ok(())
                }
            },
        }
    }

    /// Signals the trigger; `false` when there is none.
    pub(crate) fn raise<H: LineHost<Trigger = T>>(&self, host: &mut H) -> bool {
        match self {
            Self::Unset => false,
            Self::Set(trigger) => {
                host.notify(trigger);
                true
            }
        }
    }
}
