// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Platforms that bring ERR, REQ and INTx, too.

use super::{Host, Mask};
use crate::{Errno, Event};

/// A platform that keeps the triggers of ERR and REQ.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Event, EventHost, Host};
///
/// /// What a platform does when its bus reports an error of the device.
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
    /// Whether the event has a trigger.
    fn event_is_set(&self, event: Event) -> bool;

    /// Replaces or clears the trigger of the event. The only step of its request, so it may fail,
    /// and has then changed nothing; clearing cannot fail.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when there is no room to keep it.
    fn event_set(&mut self, event: Event, trigger: Option<Self::Trigger>) -> Result<(), Errno>;

    /// Signals the trigger of the event, if it has one.
    fn event_signal(&mut self, event: Event);
}

/// A platform that brings the interrupt line.
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
    /// Whether the device has an interrupt pin.
    fn intx_present(&self) -> bool;

    /// Enables INTx with this trigger, masked if the guest has set DisINTx in its command register.
    ///
    /// # Errors
    ///
    /// `ENODEV` where the pin leads nowhere; what the platform answers where the interrupt cannot be had.
    fn intx_enable(&mut self, trigger: Option<Self::Trigger>) -> Result<(), Errno>;

    /// Gives the line back, and what is armed with it.
    fn intx_disable(&mut self);

    /// What the line signals from now on; `None`: nothing, its handler stays.
    fn intx_set_trigger(&mut self, trigger: Option<Self::Trigger>);

    /// Masks or unmasks the line. A line that is still asserted signals again when unmasked.
    fn intx_set_mask(&mut self, mask: Mask);

    /// Signals the line's trigger, if it has one, as if the device had raised it.
    fn intx_signal(&mut self);

    /// Has the platform unmask the line whenever the eventfd is signalled (`CONTRACT.md`, X-02),
    /// until [`IntxHost::intx_disarm_unmask`], [`IntxHost::intx_disable`] or the eventfd is closed for good.
    ///
    /// # Errors
    ///
    /// `EBUSY` if an eventfd is armed; as [`Host::resolve`]; `ENOMEM`. Nothing has changed then.
    fn intx_arm_unmask(&mut self, fd: i32) -> Result<(), Errno>;

    /// Undoes [`IntxHost::intx_arm_unmask`]; does nothing where no eventfd is armed.
    fn intx_disarm_unmask(&mut self);
}
