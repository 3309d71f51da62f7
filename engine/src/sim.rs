// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A platform that exists only in memory: deterministic, counts every resource, and fails the n-th
//! step on demand. A tool for tests; no device is behind it.
//!
//! ```
//! use vfio_irq_engine::sim::Sim;
//! use vfio_irq_engine::{Errno, Host};
//!
//! let mut sim = Sim::new();
//! let fd = sim.eventfd();
//! sim.fail_step(0, Errno::ENOMEM);
//! assert!(matches!(sim.resolve(fd), Err(Errno::ENOMEM)));
//! assert!(sim.resolve(fd).is_ok());
//! assert_eq!(sim.leaks(), None);
//! ```

mod eventfd;
mod host;
mod pci;
mod slots;

pub use eventfd::SimTrigger;
pub use pci::Command;
pub use slots::SimSlots;

use crate::{Errno, Event, IntxHost, Mask, MsiType};
use eventfd::Eventfds;
use pci::Pci;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::string::String;

/// What the simulated device has; [`Sim::with`] takes it.
///
/// ```
/// use vfio_irq_engine::sim::{IrqCaps, Sim};
/// use vfio_irq_engine::{Host, MsiType};
///
/// // A device with the largest table, on a machine that is short of interrupts.
/// let mut sim = Sim::with(IrqCaps { msix: 2048, interrupts: 16, ..IrqCaps::default() });
/// assert!(sim.enable(MsiType::Msix, 17).is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct IrqCaps {
    /// Vectors of MSI; 0 for none.
    pub msi: u32,
    /// Entries of the MSI-X table; 0 for none.
    pub msix: u32,
    /// Whether MSI-X vectors can be added while others run.
    pub dynamic: bool,
    /// Whether MSI has mask bits.
    pub msi_maskable: bool,
    /// Whether the device has an interrupt pin.
    pub pin: bool,
    /// Whether the pin leads to an interrupt.
    pub connected: bool,
    /// Interrupts that the machine has left.
    pub interrupts: u32,
}

impl Default for IrqCaps {
    fn default() -> Self {
        Self {
            msi: 8,
            msix: 64,
            dynamic: true,
            msi_maskable: true,
            pin: true,
            connected: true,
            interrupts: 1024,
        }
    }
}

/// An attached vector, as the simulated machine sees it.
///
/// ```
/// # use vfio_irq_engine::abi::Index;
/// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
/// let fd = sim.eventfd();
/// attach(&mut device, &mut sim, Index::Msix, 3, &[fd])?;
/// let vector = device.vectors().slot(3).and_then(|slot| slot.vector());
/// assert_eq!(vector.map(|vector| vector.fd()), Some(fd));
/// # Ok::<(), vfio_irq_engine::Refusal>(())
/// ```
#[derive(Debug)]
pub struct SimVector {
    number: u32,
    trigger: SimTrigger,
    /// Allocated by the request that prepared it.
    fresh: bool,
    running: bool,
    mask: Mask,
    /// Registered as a bypass producer.
    offered: bool,
}

impl SimVector {
    /// The descriptor number of the eventfd that it signals.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let (old, new) = (sim.eventfd(), sim.eventfd());
    /// attach(&mut device, &mut sim, Index::Msix, 3, &[old])?;
    /// attach(&mut device, &mut sim, Index::Msix, 3, &[new])?;
    /// let fds = device.vectors().slots().filter_map(|(_, slot)| slot.vector()).map(|v| v.fd());
    /// assert_eq!(fds.collect::<Vec<_>>(), [new]);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn fd(&self) -> i32 {
        self.trigger.fd()
    }
}

#[derive(Debug, Default)]
struct Intx {
    on: bool,
    masked: bool,
    trigger: Option<SimTrigger>,
    /// The eventfd that unmasks it.
    armed: Option<SimTrigger>,
}

/// The simulated platform.
///
/// ```
/// use vfio_irq_engine::sim::Sim;
/// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
/// // What every test ends with: all came back, and each step was taken in its turn.
/// device.close(&mut sim);
/// assert_eq!(sim.leaks(), None);
/// assert!(sim.broken_promises().is_empty());
/// # Ok::<(), vfio_irq_engine::Refusal>(())
/// ```
#[derive(Debug)]
pub struct Sim {
    shape: IrqCaps,
    eventfds: Rc<Eventfds>,
    steps: Rc<slots::Steps>,
    slot_count: Rc<core::cell::Cell<usize>>,
    pci: Pci,
    enabled: Option<MsiType>,
    /// Vectors with an interrupt of the machine's.
    allocated: BTreeSet<u32>,
    /// Vectors whose interrupt [`Host::reclaim`](crate::Host::reclaim) gave back.
    reclaimed: BTreeSet<u32>,
    /// Vectors with a handler: what a raise reaches. The flag says that the vector is open.
    handlers: BTreeMap<u32, (SimTrigger, Mask, bool)>,
    pending: BTreeSet<u32>,
    line: Intx,
    err: Option<SimTrigger>,
    req: Option<SimTrigger>,
    lost: u64,
    log: std::vec::Vec<String>,
}

impl Default for Sim {
    fn default() -> Self {
        Self::new()
    }
}

impl Sim {
    /// A device with 8 MSI vectors, 64 MSI-X vectors and a pin.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host, MsiType, IntxHost};
    ///
    /// let sim = Sim::new();
    /// assert!(sim.intx_present() && sim.dynamic(MsiType::Msix));
    /// ```
    pub fn new() -> Self {
        Self::with(IrqCaps::default())
    }

    /// A device of another shape.
    ///
    /// ```
    /// use vfio_irq_engine::sim::{IrqCaps, Sim};
    /// use vfio_irq_engine::IntxHost;
    ///
    /// let shape = IrqCaps { pin: false, ..IrqCaps::default() };
    /// assert!(!Sim::with(shape).intx_present());
    /// ```
    pub fn with(shape: IrqCaps) -> Self {
        Self {
            shape,
            eventfds: Rc::default(),
            steps: Rc::default(),
            slot_count: Rc::default(),
            pci: Pci::default(),
            enabled: None,
            allocated: BTreeSet::new(),
            reclaimed: BTreeSet::new(),
            handlers: BTreeMap::new(),
            pending: BTreeSet::new(),
            line: Intx::default(),
            err: None,
            req: None,
            lost: 0,
            log: std::vec::Vec::new(),
        }
    }

    /// An empty map for the engine, which fails and is counted with everything else.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, IrqEngine, Errno, Slots};
    ///
    /// let mut sim = Sim::new();
    /// let mut slots = sim.slots::<u8>();
    /// sim.fail_step(0, Errno::ENOMEM);
    /// assert_eq!(slots.reserve(7), Err(Errno::ENOMEM));
    /// assert_eq!(slots.get(7), None);
    /// ```
    pub fn slots<S: Default>(&self) -> SimSlots<S> {
        SimSlots::new(Rc::clone(&self.steps), Rc::clone(&self.slot_count))
    }

    /// A new eventfd; its descriptor.
    ///
    /// ```
    /// use vfio_irq_engine::sim::Sim;
    ///
    /// let mut sim = Sim::new();
    /// let (one, two) = (sim.eventfd(), sim.eventfd());
    /// assert_ne!(one, two);
    /// assert_eq!(sim.signals(one), 0);
    /// ```
    pub fn eventfd(&mut self) -> i32 {
        self.eventfds.open()
    }

    /// A descriptor that is open and no eventfd: using it is `EINVAL`.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Errno, Host};
    ///
    /// let mut sim = Sim::new();
    /// let file = sim.other_file();
    /// assert!(matches!(sim.resolve(file), Err(Errno::EINVAL)));
    /// ```
    pub fn other_file(&mut self) -> i32 {
        self.eventfds.open_other()
    }

    /// How often the eventfd was signalled.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// (0..3).for_each(|_| sim.raise(0));
    /// assert_eq!(sim.signals(fd), 3);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn signals(&self, fd: i32) -> u64 {
        self.eventfds.signals(fd)
    }

    /// Interrupts that nobody was told of.
    ///
    /// ```
    /// use vfio_irq_engine::sim::Sim;
    ///
    /// let mut sim = Sim::new();
    /// sim.raise(0); // Nothing is attached.
    /// assert_eq!(sim.lost(), 1);
    /// ```
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Makes the n-th fallible step from here (counting from 0) fail with this error, once.
    ///
    /// ```
    /// use vfio_irq_engine::{Errno, Refusal};
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// // Steps of an attach: enabling, room for a slot, the descriptor, and two more.
    /// sim.fail_step(1, Errno::ENOMEM);
    /// let refused = attach(&mut device, &mut sim, Index::Msix, 0, &[fd]);
    /// assert_eq!(refused, Err(Refusal::Errno(Errno::ENOMEM)));
    /// assert_eq!(sim.leaks(), None);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn fail_step(&mut self, n: u64, errno: Errno) {
        self.steps.arm(n, errno);
    }

    /// Whether the failure that [`Sim::fail_step`] asked for is still to come; disarms it.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Errno};
    ///
    /// // A test that fails each step in turn ends when a request did not reach the step.
    /// let mut sim = Sim::new();
    /// sim.fail_step(100, Errno::ENOMEM);
    /// assert!(sim.disarm());
    /// assert!(!sim.disarm());
    /// ```
    pub fn disarm(&mut self) -> bool {
        self.steps.disarm()
    }

    /// Changes how many interrupts the machine has in all.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host, MsiType, Refusal};
    ///
    /// let mut sim = Sim::new();
    /// sim.set_interrupts(5); // Other devices have taken the rest.
    /// assert_eq!(sim.enable(MsiType::Msix, 6), Err(Refusal::TooFew(5)));
    /// ```
    pub fn set_interrupts(&mut self, interrupts: u32) {
        self.shape.interrupts = interrupts;
    }

    /// What the guest finds in its command register.
    pub fn command(&self) -> Command {
        self.pci.command
    }

    /// The guest writes its command register.
    pub fn set_command(&mut self, command: Command) {
        self.pci.command = command;
    }

    /// User space signals an eventfd. If it is armed to unmask the line, the line is unmasked
    /// (`CONTRACT.md`, X-02).
    ///
    /// ```
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let (fd, resample) = (sim.eventfd(), sim.eventfd());
    /// attach(&mut device, &mut sim, Index::Intx, 0, &[fd])?;
    /// let data = resample.to_ne_bytes();
    /// ask(&mut device, &mut sim, Index::Intx, [DATA_EVENTFD | ACTION_UNMASK, 0, 1], &data)?;
    /// sim.raise_intx();
    /// sim.fire(resample);
    /// sim.raise_intx();
    /// assert_eq!(sim.signals(fd), 2);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn fire(&mut self, fd: i32) {
        if self.line.armed.as_ref().is_some_and(|armed| armed.fd() == fd) {
            self.line.masked = false;
        }
    }

    /// The device raises a vector.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 1, &[fd])?;
    /// sim.raise(1);
    /// sim.raise(0); // Allocated with vector 1 (V-05), and not attached.
    /// assert_eq!((sim.signals(fd), sim.lost()), (1, 1));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn raise(&mut self, number: u32) {
        match self.handlers.get(&number) {
            Some((trigger, Mask::Unmasked, true)) => self.eventfds.signal(trigger.fd()),
            Some(_) => {
                self.pending.insert(number);
            }
            None => self.lost = self.lost.wrapping_add(1),
        }
    }

    /// The device pulls its line: masked by the very signal, as INTx is.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Intx, 0, &[fd])?;
    /// sim.raise_intx();
    /// sim.raise_intx();
    /// assert_eq!(sim.signals(fd), 1, "masked until somebody unmasks it");
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn raise_intx(&mut self) {
        if self.line.on && !self.line.masked {
            self.line.masked = true;
            self.intx_signal();
        }
    }

    /// Whether the vector has an interrupt waiting behind its mask.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::{flags::*, Index};
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// # let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// ask(&mut device, &mut sim, Index::Msix, [DATA_NONE | ACTION_MASK, 0, 1], &[])?;
    /// assert!(!sim.pending(0));
    /// sim.raise(0);
    /// assert!(sim.pending(0));
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn pending(&self, number: u32) -> bool {
        self.pending.contains(&number)
    }

    /// Vectors with an interrupt of the machine's.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// // -1 on vector 7 of an index that is off: eight are allocated, and none is attached.
    /// attach(&mut device, &mut sim, Index::Msix, 7, &[-1])?;
    /// assert_eq!(sim.allocated(), 8);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn allocated(&self) -> usize {
        self.allocated.len()
    }

    /// All that user space could notice of interrupts, as text: two equal texts, nothing changed.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::Index;
    /// # let (mut device, mut sim, ask, attach) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ask.rs"));
    /// let before = sim.visible();
    /// assert!(attach(&mut device, &mut sim, Index::Msix, 0, &[77]).is_err());
    /// assert_eq!(sim.visible(), before);
    /// let fd = sim.eventfd();
    /// attach(&mut device, &mut sim, Index::Msix, 0, &[fd])?;
    /// assert_ne!(sim.visible(), before);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn visible(&self) -> String {
        let handlers: BTreeMap<_, _> = self
            .handlers
            .iter()
            .map(|(n, (trigger, mask, running))| (*n, (trigger.fd(), *mask, *running)))
            .collect();
        // What the machine took back of detached vectors is not for user space to see (B-04).
        let allocated: BTreeSet<_> = self.allocated.union(&self.reclaimed).collect();
        std::format!(
            "{:?} {:?} {:?} {:?} {:?} line {} {} {:?} {:?} events {:?} {:?} slots {} refs {}",
            self.pci.command,
            self.enabled,
            allocated,
            handlers,
            self.pending,
            self.line.on,
            self.line.masked,
            self.line.trigger.as_ref().map(SimTrigger::fd),
            self.line.armed.as_ref().map(SimTrigger::fd),
            self.err.as_ref().map(SimTrigger::fd),
            self.req.as_ref().map(SimTrigger::fd),
            self.slot_count.get(),
            self.eventfds.references(),
        )
    }

    /// What is still held although everything should have been given back; `None`: nothing.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host};
    ///
    /// let mut sim = Sim::new();
    /// let fd = sim.eventfd();
    /// let kept = sim.resolve(fd)?;
    /// assert!(sim.leaks().is_some_and(|what| what.ends_with("refs 1")));
    /// # drop(kept);
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    pub fn leaks(&self) -> Option<String> {
        let clean = self.enabled.is_none()
            && self.allocated.is_empty()
            && self.handlers.is_empty()
            && !self.line.on
            && self.line.trigger.is_none()
            && self.slot_count.get() == 0
            && self.eventfds.references() == 0
            && self.pci.lost_writes == 0;
        (!clean).then(|| self.visible())
    }

    /// Steps that the engine took out of turn; empty as long as its promises hold.
    ///
    /// ```
    /// use vfio_irq_engine::{sim::Sim, Host, MsiType};
    ///
    /// let mut sim = Sim::new();
    /// sim.enable(MsiType::Msi, 1)?;
    /// sim.enable(MsiType::Msix, 1)?;
    /// assert_eq!(sim.broken_promises(), ["enable while enabled, or of nothing"]);
    /// # Ok::<(), vfio_irq_engine::Refusal>(())
    /// ```
    pub fn broken_promises(&self) -> &[String] {
        &self.log
    }

    fn event(&self, event: Event) -> Option<&SimTrigger> {
        match event {
            Event::Err => self.err.as_ref(),
            Event::Req => self.req.as_ref(),
        }
    }

    fn promise(&mut self, kept: bool, what: &str) {
        if !kept {
            self.log.push(String::from(what));
        }
    }

    fn settle(&mut self, number: u32) {
        if let Some((trigger, Mask::Unmasked, true)) = self.handlers.get(&number) {
            if self.pending.remove(&number) {
                self.eventfds.signal(trigger.fd());
            }
        }
    }
}
