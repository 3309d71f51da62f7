//! All interrupts of one device.

use super::cell::{Cell, MaskSource, Raised, Target, Word};
use super::line::{Line, Outlet};
use super::trigger::{self, Eventfds};
use super::{fences, pins};
use crate::sys;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Vectors whose memory comes and goes together.
const PAGE: usize = 64;

struct Entry {
    cell: Cell<AtomicU64>,
    dropped: AtomicU64,
    masks: AtomicU64,
    unmasks: AtomicU64,
    retargets: AtomicU64,
    loopbacks: AtomicU64,
    failures: AtomicU64,
}

struct Page([Entry; PAGE]);

/// How often a vector was raised, and what requests did to it while an eventfd was attached
/// (`CONTRACT.md`, B-05). The counts are the device's: they outlive its clients. What was raised
/// before the vector was used for the first time is not counted.
///
/// ```
/// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd};
/// # use vfio_irq_user::{IrqData, abi::{Index, flags}};
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// # let (one, other) = (eventfd(0, EventfdFlags::CLOEXEC)?, eventfd(0, EventfdFlags::CLOEXEC)?);
/// client.attach(Index::Msix, 0, &[one.as_fd()])?;
/// client.attach(Index::Msix, 0, &[other.as_fd()])?;
/// client.set_irqs(Index::Msix, flags::ACTION_TRIGGER, 0, IrqData::None(1))?;
/// let counts = bus.interrupts.counts(0);
/// // The loopback is a client's test of its own eventfd: the device has raised nothing.
/// assert_eq!((counts.retargets, counts.loopbacks, counts.signals), (1, 1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VectorCounts {
    /// The client was told, or will be once it unmasks.
    pub signals: u64,
    /// It was raised while nothing was attached: nobody was told, nor will be.
    pub dropped: u64,
    /// A request masked it.
    pub masks: u64,
    /// A request unmasked it.
    pub unmasks: u64,
    /// Its eventfd was replaced by another.
    pub retargets: u64,
    /// The loopback signalled it.
    pub loopbacks: u64,
    /// A request was refused because of it.
    pub failures: u64,
}

/// What requests do to a vector, as far as it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    Mask,
    Unmask,
    Retarget,
    Loopback,
    Failure,
}

/// The table that devices raise from and that requests change.
pub(crate) struct Table {
    pages: Box<[OnceLock<Box<Page>>]>,
    vectors: u32,
    function_masked: AtomicBool,
    pub(crate) line: Line,
    pub(crate) error: Outlet,
    pub(crate) release: Outlet,
}

impl Table {
    pub(crate) fn new(vectors: u32) -> Self {
        fences::prepare();
        let pages = (vectors as usize).div_ceil(PAGE);
        Self {
            pages: std::iter::repeat_with(OnceLock::new).take(pages).collect(),
            vectors,
            function_masked: AtomicBool::new(false),
            line: Line::default(),
            error: Outlet::default(),
            release: Outlet::default(),
        }
    }

    #[inline]
    fn entry(&self, number: u32) -> Option<&Entry> {
        let number = number as usize;
        self.pages.get(number / PAGE)?.get()?.0.get(number % PAGE)
    }

    /// The cell of a vector that was ever used.
    #[inline]
    pub(crate) fn cell(&self, number: u32) -> Option<&Cell<AtomicU64>> {
        self.entry(number).map(|entry| &entry.cell)
    }

    /// The cell of a vector, with memory for it. `None` beyond the last one.
    pub(crate) fn ensure(&self, number: u32) -> Option<&Cell<AtomicU64>> {
        if number >= self.vectors {
            return None;
        }
        let page = self.pages.get(number as usize / PAGE)?;
        let entry = || Entry {
            cell: Cell::new(AtomicU64::new),
            dropped: AtomicU64::new(0),
            masks: AtomicU64::new(0),
            unmasks: AtomicU64::new(0),
            retargets: AtomicU64::new(0),
            loopbacks: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        };
        let page = page.get_or_init(|| {
            let page = Page(std::array::from_fn(|_| entry()));
            if self.function_masked.load(Ordering::Relaxed) {
                page.0.iter().for_each(|entry| entry.cell.mask(MaskSource::Function));
            }
            Box::new(page)
        });
        page.0.get(number as usize % PAGE).map(|entry| &entry.cell)
    }

    /// Counts what a request did to a vector.
    pub(crate) fn count(&self, number: u32, done: Done) {
        let Some(entry) = self.entry(number) else { return };
        let counter = match done {
            Done::Mask => &entry.masks,
            Done::Unmask => &entry.unmasks,
            Done::Retarget => &entry.retargets,
            Done::Loopback => &entry.loopbacks,
            Done::Failure => &entry.failures,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Every vector that was ever used, in order.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &Cell<AtomicU64>> {
        let pages = self.pages.iter().filter_map(OnceLock::get);
        pages.flat_map(|page| page.0.iter().map(|entry| &entry.cell))
    }

    /// The function mask of MSI-X: all vectors or none.
    pub(crate) fn mask_function(&self, masked: bool) {
        if self.function_masked.swap(masked, Ordering::Relaxed) == masked {
            return;
        }
        if !masked {
            return self.cells().for_each(|cell| cell.unmask(MaskSource::Function, &Eventfds));
        }
        self.cells().for_each(|cell| cell.mask(MaskSource::Function));
        self.settle(self.cells().map(|cell| (cell, cell.target())));
    }

    /// The mask register of MSI: a bit a vector.
    pub(crate) fn mask_register(&self, vectors: u32, before: u32, now: u32) {
        let changed = || (0..vectors.min(32)).filter(|n| (before ^ now) >> n & 1 != 0);
        for number in changed() {
            let Some(cell) = self.ensure(number) else { continue };
            if now >> number & 1 != 0 {
                cell.mask(MaskSource::Register);
            } else {
                cell.unmask(MaskSource::Register, &Eventfds);
            }
        }
        if now & !before != 0 {
            let cells = changed().filter_map(|number| self.cell(number));
            self.settle(cells.map(|cell| (cell, cell.target())));
        }
    }

    /// Waits for the raises that may have seen these vectors as they were before, each with the eventfd
    /// that it had, which the caller keeps open.
    pub(crate) fn settle<'c>(
        &self,
        changed: impl Iterator<Item = (&'c Cell<AtomicU64>, Option<Target>)>,
    ) {
        AtomicU64::heavy_fence();
        for (cell, eventfd) in changed {
            cell.settle(&Eventfds, |turn| trigger::pause(turn, eventfd));
        }
    }

    /// Ends the wait of every thread that writes to an eventfd whose counter the client has filled.
    /// From any thread: the one that serves the client may be among those that wait.
    pub(crate) fn make_room(&self) {
        for cell in self.cells() {
            pins::with_pin(|by| cell.with_target(by, |eventfd| sys::make_room(eventfd.fd)));
        }
        self.line.make_room();
        self.error.make_room();
        self.release.make_room();
    }

    /// Forgets what is held: the device was reset.
    pub(crate) fn forget(&self) {
        self.cells().for_each(Cell::forget);
        self.line.set_asserted(false);
    }

    /// The interrupt line, as the command register says.
    pub(crate) fn switch_line(&self, off: bool) {
        self.line.set_off(off);
    }

    #[inline]
    fn raise(&self, number: u32) -> Raised {
        let Some(entry) = self.entry(number) else { return Raised::Dropped };
        let raised = pins::with_pin(|pin| entry.cell.raise(pin, &Eventfds));
        if raised == Raised::Dropped {
            entry.dropped.fetch_add(1, Ordering::Relaxed);
        }
        raised
    }
}

/// What a device raises its interrupts with: a handle that may be cloned and used from any thread.
///
/// [`Interrupts::raise`] takes no lock, and waits for nobody but a client that wants it to: one that fills
/// its own eventfd and then has it block. That lasts until the client replaces the eventfd, is gone, or
/// another comes, or the server stops; so a thread should not raise for several clients where they may be
/// hostile. What a client does to the vector meanwhile decides where the
/// interrupt goes, and it goes there exactly once: to the old eventfd or to the new one while the
/// eventfd is replaced (`CONTRACT.md`, B-02), into the pending bit while the vector is masked, from
/// where it is signalled when the vector is unmasked (B-03).
///
/// ```
/// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd, vfio_irq_user::abi::Index};
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// # let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
/// client.attach(Index::Msix, 0, &[fd.as_fd()])?;
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         let interrupts = bus.interrupts.clone();
///         scope.spawn(move || (0..1000).for_each(|_| _ = interrupts.raise(0)));
///     }
/// });
/// // Four threads, and nothing is lost.
/// assert_eq!(bus.interrupts.counts(0).signals, 4000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Interrupts(pub(crate) Arc<Table>);

impl Interrupts {
    /// Raises a vector of MSI or MSI-X, whichever is in use.
    ///
    /// ```
    /// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd};
    /// # use vfio_irq_user::{Raised, abi::Index};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
    /// client.attach(Index::Msix, 1, &[fd.as_fd()])?;
    /// assert_eq!(bus.interrupts.raise(1), Raised::Signalled);
    /// // A vector that the device does not have is one that nobody listens to.
    /// assert_eq!(bus.interrupts.raise(9999), Raised::Dropped);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn raise(&self, vector: u32) -> Raised {
        self.0.raise(vector)
    }

    /// Whether the vector has an interrupt that waits behind a mask (`CONTRACT.md`, B-03): its bit among
    /// the pending bits of MSI or MSI-X.
    ///
    /// ```
    /// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd};
    /// # use vfio_irq_user::{IrqData, abi::{Index, flags}};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
    /// client.attach(Index::Msix, 0, &[fd.as_fd()])?;
    /// client.set_irqs(Index::Msix, flags::ACTION_MASK, 0, IrqData::None(1))?;
    /// bus.interrupts.raise(0);
    /// assert!(bus.interrupts.is_pending(0));
    /// // Unmasking delivers it, once.
    /// client.set_irqs(Index::Msix, flags::ACTION_UNMASK, 0, IrqData::None(1))?;
    /// assert!(!bus.interrupts.is_pending(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_pending(&self, vector: u32) -> bool {
        self.0.cell(vector).is_some_and(Cell::is_held)
    }

    /// Whether the client has attached an eventfd to the vector.
    ///
    /// ```
    /// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd, vfio_irq_user::abi::Index};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
    /// client.attach(Index::Msix, 6, &[fd.as_fd()])?;
    /// // One vector, and no other: a client enables what it uses.
    /// let attached: Vec<u32> = (0..8).filter(|v| bus.interrupts.is_attached(*v)).collect();
    /// assert_eq!(attached, [6]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_attached(&self, vector: u32) -> bool {
        self.0.cell(vector).is_some_and(Cell::is_attached)
    }

    /// Whether the vector is masked, by a request or by a register of the device's own.
    ///
    /// ```
    /// use vfio_irq_user::pci::region::CONFIG;
    /// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd, vfio_irq_user::abi::Index};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
    /// client.attach(Index::Msi, 0, &[fd.as_fd()])?;
    /// // The guest may mask by itself: here with MSI's own mask bits, in its capability.
    /// # let mut space = [0; 256];
    /// # client.region_read(CONFIG, 0, &mut space)?;
    /// # let mut cap = usize::from(space[0x34]);
    /// # while space[cap] != 5 { cap = usize::from(space[cap + 1]); }
    /// # let mask_register = cap as u64 + if space[cap + 2] & 0x80 != 0 { 16 } else { 12 };
    /// client.region_write(CONFIG, mask_register, &1_u32.to_le_bytes())?;
    /// assert!(bus.interrupts.is_masked(0));
    /// assert!(!bus.interrupts.is_masked(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_masked(&self, vector: u32) -> bool {
        self.0.cell(vector).is_some_and(Cell::is_masked)
    }

    /// How often the vector was raised: every raise that has returned.
    ///
    /// ```
    /// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd};
    /// # use vfio_irq_user::{IrqData, abi::{Index, flags}};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
    /// client.attach(Index::Msix, 0, &[fd.as_fd()])?;
    /// (0..3).for_each(|_| _ = bus.interrupts.raise(0));
    /// client.set_irqs(Index::Msix, flags::ACTION_TRIGGER, 0, IrqData::Detach(1))?;
    /// bus.interrupts.raise(0);
    /// let counts = bus.interrupts.counts(0);
    /// assert_eq!((counts.signals, counts.dropped), (3, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn counts(&self, vector: u32) -> VectorCounts {
        let Some(entry) = self.0.entry(vector) else { return VectorCounts::default() };
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        VectorCounts {
            signals: entry.cell.counted(),
            dropped: get(&entry.dropped),
            masks: get(&entry.masks),
            unmasks: get(&entry.unmasks),
            retargets: get(&entry.retargets),
            loopbacks: get(&entry.loopbacks),
            failures: get(&entry.failures),
        }
    }

    /// Asserts the interrupt line, or lets go of it. A line that is still asserted when the client
    /// unmasks it signals again (`CONTRACT.md`, X-06).
    ///
    /// ```
    /// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd};
    /// # use vfio_irq_user::{IrqData, abi::{Index, flags}};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    /// client.attach(Index::Intx, 0, &[fd.as_fd()])?;
    /// bus.interrupts.set_line(true);
    /// rustix::io::read(&fd, &mut [0; 8])?;
    /// // A level, not an edge: whoever unmasks it without having made the device let go hears again.
    /// client.set_irqs(Index::Intx, flags::ACTION_UNMASK, 0, IrqData::None(1))?;
    /// rustix::io::read(&fd, &mut [0; 8])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_line(&self, asserted: bool) {
        self.0.line.set_asserted(asserted);
    }

    /// Whether the device asserts its interrupt line.
    ///
    /// ```
    /// use vfio_irq_user::pci::region::CONFIG;
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// bus.interrupts.set_line(true);
    /// assert!(bus.interrupts.line_is_asserted());
    /// // The guest sees it in the status register.
    /// let mut status = [0; 2];
    /// client.region_read(CONFIG, 6, &mut status)?;
    /// assert_ne!(status[0] & 1 << 3, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn line_is_asserted(&self) -> bool {
        self.0.line.is_asserted()
    }

    /// Tells the client that the device met an error: signals the eventfd of ERR (`CONTRACT.md`, E-03).
    ///
    /// ```
    /// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd, vfio_irq_user::abi::Index};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    /// client.attach(Index::Err, 0, &[fd.as_fd()])?;
    /// bus.interrupts.raise_error();
    /// rustix::io::read(&fd, &mut [0; 8])?; // A VMM stops its guest now.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn raise_error(&self) {
        self.0.error.signal();
    }

    /// Asks the client to give the device back: signals the eventfd of REQ (`CONTRACT.md`, E-03).
    ///
    /// ```
    /// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd, vfio_irq_user::abi::Index};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// bus.interrupts.ask_for_release(); // Nobody listens, and that is all right.
    /// let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    /// client.attach(Index::Req, 0, &[fd.as_fd()])?;
    /// bus.interrupts.ask_for_release();
    /// rustix::io::read(&fd, &mut [0; 8])?; // A VMM unplugs the device now.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ask_for_release(&self) {
        self.0.release.signal();
    }
}

impl fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupts").field("vectors", &self.0.vectors).finish_non_exhaustive()
    }
}
