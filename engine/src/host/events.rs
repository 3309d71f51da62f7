// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Platforms with ERR, REQ and INTx.

use super::{Host, Mask};
use crate::{Errno, Event};

/// A platform that holds the triggers of ERR and REQ.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Event, EventHost, Host};
///
/// /// Called by a platform if its bus reports an error of the device.
/// fn report<H: EventHost>(host: &mut H) {
///     host.event_signal(Event::Err);
/// }
/// let mut sim = Sim::new();
/// let fd = sim.eventfd();
/// let trigger = sim.resolve(fd)?;
/// sim.event_set(Event::Err, Some(trigger))?;
/// report(&mut sim);
/// assert_eq!(sim.signals(fd), 1);
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
pub trait EventHost: Host {
    /// Returns true if the event has a trigger.
    fn event_is_set(&self, event: Event) -> bool;

    /// Replaces or clears the trigger of the event. This is the only step of its request, so it
    /// may fail. If it fails, nothing has changed. Clearing cannot fail.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the platform has no memory for the trigger.
    fn event_set(&mut self, event: Event, trigger: Option<Self::Trigger>) -> Result<(), Errno>;

    /// Signals the trigger of the event, if it has one.
    fn event_signal(&mut self, event: Event);
}

/// A platform with INTx.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Mask, Host, IntxHost};
///
/// let mut sim = Sim::new();
/// let fd = sim.eventfd();
/// let trigger = sim.resolve(fd)?;
/// sim.intx_enable(Some(trigger))?;
/// sim.raise_intx();
/// sim.raise_intx(); // Masked by its own signal.
/// sim.intx_set_mask(Mask::Unmasked);
/// sim.raise_intx();
/// assert_eq!(sim.signals(fd), 2);
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
pub trait IntxHost: Host {
    /// Returns true if the device has an interrupt pin.
    fn intx_present(&self) -> bool;

    /// Enables INTx with this trigger. If DisINTx is set in the command register, INTx starts
    /// masked.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the pin has no routed interrupt. If the platform cannot request the interrupt,
    /// its error passes through.
    fn intx_enable(&mut self, trigger: Option<Self::Trigger>) -> Result<(), Errno>;

    /// Disables INTx, and disarms the resample eventfd.
    fn intx_disable(&mut self);

    /// Replaces the trigger of INTx. With `None`, INTx signals nothing and its handler stays.
    fn intx_set_trigger(&mut self, trigger: Option<Self::Trigger>);

    /// Masks or unmasks INTx. If INTx is still asserted at unmask, it signals again
    /// (`CONTRACT.md`, X-06).
    fn intx_set_mask(&mut self, mask: Mask);

    /// Signals the trigger of INTx, if it has one, as if the device had asserted INTx.
    fn intx_signal(&mut self);

    /// Arms a resample eventfd: each signal of it unmasks INTx (`CONTRACT.md`, X-02).
    /// [`IntxHost::intx_disarm_unmask`] and [`IntxHost::intx_disable`] disarm it, and so does the
    /// last close of the eventfd.
    ///
    /// # Errors
    ///
    /// `EBUSY` if an eventfd is armed, `ENOMEM`, or an error of [`Host::resolve`]. Nothing has
    /// changed then.
    fn intx_arm_unmask(&mut self, fd: i32) -> Result<(), Errno>;

    /// Disarms the resample eventfd. Does nothing if no eventfd is armed.
    fn intx_disarm_unmask(&mut self);
}
