//! INTx (`CONTRACT.md`, X-01 to X-06).

use super::guarded::Guarded;
use super::trigger::Trigger;
use std::sync::Arc;

#[derive(Default)]
struct State {
    enabled: bool,
    /// The device asserts INTx.
    asserted: bool,
    /// Masked by the client, or automatically by the last interrupt.
    masked: bool,
    /// The guest has set Interrupt Disable in the command register.
    disabled_by_command: bool,
}

impl State {
    /// Masks INTx and signals it, if INTx is asserted and nothing masks it. As in Linux, an interrupt
    /// without an eventfd masks INTx as well (`CONTRACT.md`, X-06).
    fn deliver(&mut self, trigger: Option<&Trigger>) {
        if self.asserted && self.enabled && !self.masked && !self.disabled_by_command {
            self.masked = true;
            trigger.iter().for_each(|trigger| trigger.signal());
        }
    }
}

/// INTx of a device.
#[derive(Default)]
pub(crate) struct Intx(Guarded<State>);

impl Intx {
    pub(crate) fn enable(&self, trigger: Option<Arc<Trigger>>) {
        self.replace(trigger, |state| (state.enabled, state.masked) = (true, false));
    }

    pub(crate) fn disable(&self) {
        self.replace(None, |state| (state.enabled, state.masked) = (false, false));
    }

    /// Replaces the eventfd. When it returns, no thread signals the old eventfd.
    pub(crate) fn set_trigger(&self, trigger: Option<Arc<Trigger>>) {
        self.replace(trigger, |_| ());
    }

    fn replace(&self, trigger: Option<Arc<Trigger>>, change: impl FnOnce(&mut State)) {
        self.0.replace(trigger, |state, trigger| {
            change(state);
            state.deliver(trigger);
        });
    }

    /// Masks or unmasks INTx. When it returns after masking, no thread signals the eventfd.
    pub(crate) fn set_masked(&self, masked: bool) {
        self.0.with(|state, trigger| {
            state.masked = masked;
            state.deliver(trigger);
        });
    }

    /// Applies Interrupt Disable of the command register.
    pub(crate) fn set_disabled_by_command(&self, disabled: bool) {
        self.0.with(|state, trigger| {
            state.disabled_by_command = disabled;
            state.deliver(trigger);
        });
    }

    /// The device asserts or deasserts INTx.
    pub(crate) fn set_asserted(&self, asserted: bool) {
        self.0.with(|state, trigger| {
            state.asserted = asserted;
            state.deliver(trigger);
        });
    }

    pub(crate) fn is_asserted(&self) -> bool {
        self.0.with(|state, _| state.asserted)
    }

    /// Signals the eventfd for a loopback (`CONTRACT.md`, X-05).
    pub(crate) fn signal(&self) {
        self.0.with(|_, trigger| trigger.iter().for_each(|trigger| trigger.signal()));
    }

    /// Unblocks a thread that writes to the eventfd: see [`Guarded::make_room`].
    pub(crate) fn make_room(&self) {
        self.0.make_room();
    }
}
