// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Platforms that bring ERR, REQ and INTx, too.

use super::{Gate, Host};
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
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Event, EventHost};
    /// # let (mut device, mut sim, ask) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd().to_ne_bytes();
    /// ask(&mut device, &mut sim, [4, 36, 0, 1], &fd)?;
    /// assert!(sim.event_is_set(Event::Req) && !sim.event_is_set(Event::Err));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn event_is_set(&self, event: Event) -> bool;

    /// Replaces or clears the trigger of the event. The only step of its request, so it may fail,
    /// and has then changed nothing; clearing cannot fail.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Event, EventHost};
    /// # let (mut device, mut sim, ask) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd().to_ne_bytes();
    /// ask(&mut device, &mut sim, [3, 36, 0, 1], &fd)?;
    /// ask(&mut device, &mut sim, [3, 33, 0, 0], &[])?; // E-04: no data and no count clears it.
    /// assert!(!sim.event_is_set(Event::Err));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn event_set(&mut self, event: Event, trigger: Option<Self::Trigger>) -> Result<(), Errno>;

    /// Signals the trigger of the event, if it has one.
    ///
    /// ```
    /// # let (mut device, mut sim, ask) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// ask(&mut device, &mut sim, [4, 36, 0, 1], &fd.to_ne_bytes())?;
    /// ask(&mut device, &mut sim, [4, 33, 0, 1], &[])?; // E-04: a test of its own wiring.
    /// assert_eq!(sim.signals(fd), 1);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn event_signal(&mut self, event: Event);
}

/// A platform that brings the interrupt line.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Gate, Host, LineHost};
///
/// let mut sim = Sim::new();
/// let fd = sim.eventfd();
/// let trigger = sim.resolve(fd)?;
/// sim.line_enable()?;
/// sim.line_target(Some(trigger));
/// sim.pull();
/// sim.pull(); // Masked by its own signal.
/// sim.line_set_gate(Gate::Open);
/// sim.pull();
/// assert_eq!(sim.signals(fd), 2);
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
pub trait LineHost: Host {
    /// Whether the device has an interrupt pin.
    ///
    /// ```
    /// use vfio_irq_engine::sim::{Shape, Sim};
    /// use vfio_irq_engine::{abi::Index, Device};
    ///
    /// // A virtual function has no pin: GET_IRQ_INFO says that INTx has no vector (I-03).
    /// let sim = Sim::with(Shape { pin: false, ..Shape::default() });
    /// assert_eq!(Device::<Sim>::new(sim.slots()).info(&sim, Index::Intx).count, 0);
    /// ```
    fn line_present(&self) -> bool;

    /// Readies the line, masked as the device's command register says, with nothing to signal.
    /// `ENODEV` where the pin leads nowhere.
    ///
    /// ```
    /// use vfio_irq_engine::sim::{Shape, Sim};
    /// use vfio_irq_engine::{Errno, LineHost};
    ///
    /// let mut sim = Sim::with(Shape { connected: false, ..Shape::default() });
    /// assert_eq!(sim.line_enable(), Err(Errno::ENODEV));
    /// ```
    fn line_enable(&mut self) -> Result<(), Errno>;

    /// Gives the line back.
    ///
    /// ```
    /// # let (mut device, mut sim, ask) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd().to_ne_bytes();
    /// ask(&mut device, &mut sim, [0, 36, 0, 1], &fd)?;
    /// ask(&mut device, &mut sim, [0, 33, 0, 0], &[])?; // Disable INTx.
    /// assert_eq!(sim.leaks(), None);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn line_disable(&mut self);

    /// What the line signals from now on; `None`: nothing, its handler stays.
    ///
    /// ```
    /// # let (mut device, mut sim, ask) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// ask(&mut device, &mut sim, [0, 36, 0, 1], &fd.to_ne_bytes())?;
    /// ask(&mut device, &mut sim, [0, 36, 0, 1], &(-1_i32).to_ne_bytes())?;
    /// // INTx is still in use, with nobody to tell.
    /// sim.pull();
    /// assert_eq!((sim.signals(fd), device.active().is_some()), (0, true));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn line_target(&mut self, trigger: Option<Self::Trigger>);

    /// Masks or unmasks the line. A line that is still asserted signals again when unmasked.
    ///
    /// ```
    /// # let (mut device, mut sim, ask) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// ask(&mut device, &mut sim, [0, 36, 0, 1], &fd.to_ne_bytes())?;
    /// ask(&mut device, &mut sim, [0, 9, 0, 1], &[])?; // Mask.
    /// sim.pull();
    /// assert_eq!(sim.signals(fd), 0);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn line_set_gate(&mut self, gate: Gate);

    /// Signals the line's trigger, if it has one, as if the device had raised it.
    ///
    /// ```
    /// # let (mut device, mut sim, ask) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// ask(&mut device, &mut sim, [0, 36, 0, 1], &fd.to_ne_bytes())?;
    /// ask(&mut device, &mut sim, [0, 34, 0, 1], &[1])?; // The loopback, with a byte that says yes.
    /// assert_eq!(sim.signals(fd), 1);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn line_signal(&mut self);

    /// Has the platform unmask the line whenever the eventfd is signalled.
    ///
    /// ```
    /// use vfio_irq_engine::{Errno, Refusal};
    /// # let (mut device, mut sim, ask) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let (fd, unmask) = (sim.eventfd(), sim.eventfd().to_ne_bytes());
    /// ask(&mut device, &mut sim, [0, 36, 0, 1], &fd.to_ne_bytes())?;
    /// ask(&mut device, &mut sim, [0, 20, 0, 1], &unmask)?; // UNMASK with an eventfd.
    /// // There is none that masks: the signal itself does.
    /// let mask = ask(&mut device, &mut sim, [0, 12, 0, 1], &unmask);
    /// assert_eq!(mask, Err(Refusal::Errno(Errno::ENOTTY)));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn line_watch(&mut self, fd: i32) -> Result<Self::Watch, Errno>;
}
