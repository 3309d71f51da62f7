// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! INTx: one vector, one handler, and a trigger that may be absent (`CONTRACT.md`, X-01 to X-06).

use crate::abi::{Action, Data, Request};
use crate::{Errno, IntxHost, Mask};

/// Records whether INTx is active. The platform holds the trigger and the resample eventfd. If
/// there is no trigger, an interrupt or a loopback signals nothing.
#[derive(Default)]
pub(crate) struct Intx {
    active: bool,
}

impl Intx {
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    pub(crate) fn set_irqs<H: IntxHost>(
        &mut self,
        host: &mut H,
        request: &Request<'_>,
        msi_active: bool,
    ) -> Result<(), Errno> {
        let whole = request.range().start() == 0 && request.range().count() == 1;
        match request.action() {
            Action::Trigger => self.trigger(host, request, whole, msi_active),
            Action::Mask | Action::Unmask if !whole || !self.active => Err(Errno::EINVAL),
            Action::Mask => set_mask(host, Mask::Masked, request.data()),
            Action::Unmask => set_mask(host, Mask::Unmasked, request.data()),
        }
    }

    pub(crate) fn disable<H: IntxHost>(&mut self, host: &mut H) {
        if core::mem::take(&mut self.active) {
            host.intx_disable();
        }
    }

    fn trigger<H: IntxHost>(
        &mut self,
        host: &mut H,
        request: &Request<'_>,
        whole: bool,
        msi_active: bool,
    ) -> Result<(), Errno> {
        let off = request.range().count() == 0 && request.data() == Data::None;
        if off && self.active {
            self.disable(host);
            return Ok(());
        }
        if msi_active || !whole {
            return Err(Errno::EINVAL);
        }
        let selected = match request.data() {
            Data::Eventfd(fds) => return self.set_trigger(host, fds.get(0)),
            Data::None => true,
            Data::Bool(bools) => bools.get(0),
        };
        if !self.active {
            return Err(Errno::EINVAL);
        }
        if selected {
            host.intx_signal();
        }
        Ok(())
    }

    fn set_trigger<H: IntxHost>(&mut self, host: &mut H, fd: Option<i32>) -> Result<(), Errno> {
        let trigger = match fd {
            Some(fd @ 0..) => Some(host.resolve(fd)?),
            _ => None,
        };
        if !self.active {
            host.intx_enable(trigger)?;
            self.active = true;
            return Ok(());
        }
        host.intx_set_trigger(trigger);
        Ok(())
    }
}

fn set_mask<H: IntxHost>(host: &mut H, mask: Mask, data: Data<'_>) -> Result<(), Errno> {
    match data {
        Data::None => host.intx_set_mask(mask),
        Data::Bool(bools) => {
            if bools.get(0) {
                host.intx_set_mask(mask);
            }
        }
        Data::Eventfd(_) if mask == Mask::Masked => return Err(Errno::ENOTTY),
        Data::Eventfd(fds) => match fds.get(0) {
            Some(fd @ 0..) => host.intx_arm_unmask(fd)?,
            _ => host.intx_disarm_unmask(),
        },
    }
    Ok(())
}
