// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! INTx: one line, one handler, a trigger that may be missing (`CONTRACT.md`, X-01 to X-06).

use crate::abi::{Action, Data, Request};
use crate::{Errno, Gate, LineHost};

/// "No trigger" is the platform's to hold, as a state: an interrupt or a loopback that finds none
/// signals nothing.
pub(crate) enum Line<W> {
    Idle,
    Active { unmask_watch: Option<W> },
}

impl<W> Line<W> {
    pub(crate) fn is_active(&self) -> bool {
        matches!(self, Self::Active { .. })
    }

    pub(crate) fn set_irqs<H: LineHost<Watch = W>>(
        &mut self,
        host: &mut H,
        request: &Request<'_>,
        elsewhere: bool,
    ) -> Result<(), Errno> {
        let whole = request.range().start() == 0 && request.range().count() == 1;
        match request.action() {
            Action::Trigger => self.trigger(host, request, whole, elsewhere),
            Action::Mask | Action::Unmask if !whole || !self.is_active() => Err(Errno::EINVAL),
            Action::Mask => self.gate(host, Gate::Masked, request.data()),
            Action::Unmask => self.gate(host, Gate::Open, request.data()),
        }
    }

    pub(crate) fn disable<H: LineHost<Watch = W>>(&mut self, host: &mut H) {
        let Self::Active { unmask_watch } = core::mem::replace(self, Self::Idle) else { return };
        if let Some(watch) = unmask_watch {
            host.unwatch(watch);
        }
        host.line_disable();
    }

    fn trigger<H: LineHost<Watch = W>>(
        &mut self,
        host: &mut H,
        request: &Request<'_>,
        whole: bool,
        elsewhere: bool,
    ) -> Result<(), Errno> {
        let off = request.range().count() == 0 && request.data() == Data::None;
        if off && self.is_active() {
            self.disable(host);
            return Ok(());
        }
        if elsewhere || !whole {
            return Err(Errno::EINVAL);
        }
        let chosen = match request.data() {
            Data::Eventfd(fds) => return self.target(host, fds.get(0).unwrap_or(-1)),
            Data::None => true,
            Data::Bool(bools) => bools.get(0),
        };
        if !self.is_active() {
            return Err(Errno::EINVAL);
        }
        if chosen {
            host.line_signal();
        }
        Ok(())
    }

    fn target<H: LineHost<Watch = W>>(&mut self, host: &mut H, fd: i32) -> Result<(), Errno> {
        let trigger = if fd >= 0 { Some(host.resolve(fd)?) } else { None };
        if !self.is_active() {
            host.line_enable()?;
            *self = Self::Active { unmask_watch: None };
        }
        host.line_target(trigger);
        Ok(())
    }

    fn gate<H: LineHost<Watch = W>>(
        &mut self,
        host: &mut H,
        gate: Gate,
        data: Data<'_>,
    ) -> Result<(), Errno> {
        match (data, gate) {
            (Data::None, _) => host.line_set_gate(gate),
            (Data::Bool(bools), _) => {
                if bools.get(0) {
                    host.line_set_gate(gate);
                }
            }
            (Data::Eventfd(_), Gate::Masked) => return Err(Errno::ENOTTY),
            (Data::Eventfd(fds), Gate::Open) => self.watch(host, fds.get(0).unwrap_or(-1))?,
        }
        Ok(())
    }

    fn watch<H: LineHost<Watch = W>>(&mut self, host: &mut H, fd: i32) -> Result<(), Errno> {
        let Self::Active { unmask_watch } = self else { return Err(Errno::EINVAL) };
        match (unmask_watch.take(), fd >= 0) {
            (None, true) => *unmask_watch = Some(host.line_watch(fd)?),
            (Some(watch), false) => host.unwatch(watch),
            (None, false) => {}
            (Some(watch), true) => {
                *unmask_watch = Some(watch);
                return Err(Errno::EBUSY);
            }
        }
        Ok(())
    }
}
