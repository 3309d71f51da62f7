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
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Event, EventHost};
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Req, 0, &[fd])?;
    /// assert!(sim.event_is_set(Event::Req) && !sim.event_is_set(Event::Err));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn event_is_set(&self, event: Event) -> bool;

    /// Replaces or clears the trigger of the event. The only step of its request, so it may fail,
    /// and has then changed nothing; clearing cannot fail.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when there is no room to keep it.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Event, EventHost};
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Err, 0, &[fd])?;
    /// // E-04: no data and no count clears it.
    /// ask(&mut device, &mut sim, Index::Err, [DATA_NONE | ACTION_TRIGGER, 0, 0], &[])?;
    /// assert!(!sim.event_is_set(Event::Err));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn event_set(&mut self, event: Event, trigger: Option<Self::Trigger>) -> Result<(), Errno>;

    /// Signals the trigger of the event, if it has one.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Req, 0, &[fd])?;
    /// // E-04: a test of its own wiring.
    /// ask(&mut device, &mut sim, Index::Req, [DATA_NONE | ACTION_TRIGGER, 0, 1], &[])?;
    /// assert_eq!(sim.signals(fd), 1);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
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
    ///
    /// ```
    /// use vfio_irq_engine::sim::{IrqCaps, Sim};
    /// use vfio_irq_engine::{abi::Index, IrqEngine};
    ///
    /// // A virtual function has no pin: GET_IRQ_INFO says that INTx has no vector (I-03).
    /// let sim = Sim::with(IrqCaps { pin: false, ..IrqCaps::default() });
    /// assert_eq!(IrqEngine::<Sim>::new(sim.slots()).info(&sim, Index::Intx).count, 0);
    /// ```
    fn intx_present(&self) -> bool;

    /// Enables INTx with this trigger, masked if the guest has set DisINTx in its command register.
    ///
    /// # Errors
    ///
    /// `ENODEV` where the pin leads nowhere; what the platform answers where the interrupt cannot be had.
    ///
    /// ```
    /// use vfio_irq_engine::sim::{IrqCaps, Sim};
    /// use vfio_irq_engine::{Errno, IntxHost};
    ///
    /// let mut sim = Sim::with(IrqCaps { connected: false, ..IrqCaps::default() });
    /// assert_eq!(sim.intx_enable(None), Err(Errno::ENODEV));
    /// ```
    fn intx_enable(&mut self, trigger: Option<Self::Trigger>) -> Result<(), Errno>;

    /// Gives the line back, and what is armed with it.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Intx, 0, &[fd])?;
    /// // Disable INTx.
    /// ask(&mut device, &mut sim, Index::Intx, [DATA_NONE | ACTION_TRIGGER, 0, 0], &[])?;
    /// assert_eq!(sim.leaks(), None);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn intx_disable(&mut self);

    /// What the line signals from now on; `None`: nothing, its handler stays.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Intx, 0, &[fd])?;
    /// attach(&mut device, &mut sim, Index::Intx, 0, &[-1])?;
    /// // INTx is still in use, with nobody to tell.
    /// sim.raise_intx();
    /// assert_eq!((sim.signals(fd), device.active().is_some()), (0, true));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn intx_set_trigger(&mut self, trigger: Option<Self::Trigger>);

    /// Masks or unmasks the line. A line that is still asserted signals again when unmasked.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Intx, 0, &[fd])?;
    /// ask(&mut device, &mut sim, Index::Intx, [DATA_NONE | ACTION_MASK, 0, 1], &[])?;
    /// sim.raise_intx();
    /// assert_eq!(sim.signals(fd), 0);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn intx_set_mask(&mut self, mask: Mask);

    /// Signals the line's trigger, if it has one, as if the device had raised it.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Intx, 0, &[fd])?;
    /// // The loopback, with a byte that says yes.
    /// ask(&mut device, &mut sim, Index::Intx, [DATA_BOOL | ACTION_TRIGGER, 0, 1], &[1])?;
    /// assert_eq!(sim.signals(fd), 1);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn intx_signal(&mut self);

    /// Has the platform unmask the line whenever the eventfd is signalled (`CONTRACT.md`, X-02),
    /// until [`IntxHost::intx_disarm_unmask`], [`IntxHost::intx_disable`] or the eventfd is closed for good.
    ///
    /// # Errors
    ///
    /// `EBUSY` if an eventfd is armed; as [`Host::resolve`]; `ENOMEM`. Nothing has changed then.
    ///
    /// ```
    /// use vfio_irq_engine::{Errno, Refusal};
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let (fd, unmask) = (sim.eventfd(), sim.eventfd().to_ne_bytes());
    /// attach(&mut device, &mut sim, Index::Intx, 0, &[fd])?;
    /// // UNMASK with an eventfd.
    /// ask(&mut device, &mut sim, Index::Intx, [DATA_EVENTFD | ACTION_UNMASK, 0, 1], &unmask)?;
    /// // There is none that masks: the signal itself does.
    /// let mask = ask(&mut device, &mut sim, Index::Intx, [DATA_EVENTFD | ACTION_MASK, 0, 1], &unmask);
    /// assert_eq!(mask, Err(Refusal::Errno(Errno::ENOTTY)));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    fn intx_arm_unmask(&mut self, fd: i32) -> Result<(), Errno>;

    /// Undoes [`IntxHost::intx_arm_unmask`]; does nothing where no eventfd is armed.
    fn intx_disarm_unmask(&mut self);
}
