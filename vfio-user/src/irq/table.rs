//! All interrupts of one device: a table of cells, and INTx, ERR and REQ.

use super::cell::{Cell, MaskSource, Raised, Target, Word};
use super::line::{Line, Outlet};
use super::trigger::{self, Eventfds};
use super::{fences, hazard};
use crate::sys;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Vectors that are allocated together, on first use.
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

/// Counts of one vector: raises, and requests while an eventfd was attached (`CONTRACT.md`, B-05).
/// The counts belong to the device and outlive its clients. Raises before the first use of the
/// vector are not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VectorCounts {
    /// Interrupts that were signalled or became pending.
    pub signals: u64,
    /// Interrupts that were lost, because no eventfd was attached.
    pub dropped: u64,
    /// Requests that masked the vector.
    pub masks: u64,
    /// Requests that unmasked the vector.
    pub unmasks: u64,
    /// Requests that replaced the eventfd by another.
    pub retargets: u64,
    /// Requests that signalled the vector (loopback).
    pub loopbacks: u64,
    /// Requests that were refused because of the vector.
    pub failures: u64,
}

/// A counted effect of a request on a vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    Mask,
    Unmask,
    Retarget,
    Loopback,
    Failure,
}

/// The interrupts of a device. The device raises, the client's requests change.
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

    /// Returns the cell of a vector, or `None` if the vector was never used.
    #[inline]
    pub(crate) fn cell(&self, number: u32) -> Option<&Cell<AtomicU64>> {
        self.entry(number).map(|entry| &entry.cell)
    }

    /// Returns the cell of a vector and allocates it if necessary. Returns `None` beyond the last
    /// vector.
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

    /// Returns the cells of all vectors that were ever used, in order.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &Cell<AtomicU64>> {
        let pages = self.pages.iter().filter_map(OnceLock::get);
        pages.flat_map(|page| page.0.iter().map(|entry| &entry.cell))
    }

    /// Sets or clears the function mask of MSI-X, which masks all vectors.
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

    /// Applies a change of the mask register of MSI, which has one bit per vector.
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

    /// Waits for the raises that may have loaded the old words of these cells. Each cell comes with
    /// its old eventfd, which the caller keeps open. One heavy fence serves all cells.
    pub(crate) fn settle<'c>(
        &self,
        changed: impl Iterator<Item = (&'c Cell<AtomicU64>, Option<Target>)>,
    ) {
        AtomicU64::heavy_fence();
        for (cell, eventfd) in changed {
            cell.settle(&Eventfds, |turn| trigger::pause(turn, eventfd));
        }
    }

    /// Unblocks every thread that writes to an eventfd whose counter the client has filled. Any
    /// thread may call this: the thread that serves the client may itself be blocked.
    pub(crate) fn make_room(&self) {
        for cell in self.cells() {
            hazard::with_hazard(|by| cell.with_target(by, |eventfd| sys::make_room(eventfd.fd)));
        }
        self.line.make_room();
        self.error.make_room();
        self.release.make_room();
    }

    /// Clears all pending bits and deasserts INTx, because the device was reset.
    pub(crate) fn forget(&self) {
        self.cells().for_each(Cell::forget);
        self.line.set_asserted(false);
    }

    /// Applies Interrupt Disable of the command register to INTx.
    pub(crate) fn switch_line(&self, off: bool) {
        self.line.set_off(off);
    }

    #[inline]
    fn raise(&self, number: u32) -> Raised {
        let Some(entry) = self.entry(number) else { return Raised::Dropped };
        let raised = hazard::with_hazard(|hazard| entry.cell.raise(hazard, &Eventfds));
        if raised == Raised::Dropped {
            entry.dropped.fetch_add(1, Ordering::Relaxed);
        }
        raised
    }
}

/// Raises the interrupts of a device. Clones share the interrupts, and any thread may use them.
///
/// [`Interrupts::raise`] takes no lock. It blocks only if the client fills the counter of its own
/// eventfd and clears `O_NONBLOCK`. The block ends when the client replaces the eventfd or
/// disconnects, when another client connects, or when the server stops. So one thread should not
/// raise for several clients that may be hostile.
///
/// A raise that races with a request delivers its interrupt exactly once. If the client replaces
/// the eventfd, the interrupt goes to the old or the new one (`CONTRACT.md`, B-02). If the client
/// masks the vector, the interrupt becomes pending and is signalled on unmask (B-03).
#[derive(Clone)]
pub struct Interrupts(pub(crate) Arc<Table>);

impl Interrupts {
    /// Raises a vector of MSI or MSI-X, whichever is enabled. Returns the result; a vector that
    /// does not exist is [`Raised::Dropped`].
    #[inline]
    pub fn raise(&self, vector: u32) -> Raised {
        self.0.raise(vector)
    }

    /// Returns true if the vector is pending (`CONTRACT.md`, B-03): its bit in the pending bits of
    /// MSI or MSI-X.
    pub fn is_pending(&self, vector: u32) -> bool {
        self.0.cell(vector).is_some_and(Cell::is_held)
    }

    /// Returns true if the client has attached an eventfd to the vector.
    pub fn is_attached(&self, vector: u32) -> bool {
        self.0.cell(vector).is_some_and(Cell::is_attached)
    }

    /// Returns true if a request of the client or a register of the function masks the vector.
    pub fn is_masked(&self, vector: u32) -> bool {
        self.0.cell(vector).is_some_and(Cell::is_masked)
    }

    /// Returns the counts of the vector. They include every raise that has returned.
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

    /// Asserts or deasserts INTx. If INTx is still asserted when the client unmasks it, the server
    /// signals it again (`CONTRACT.md`, X-06).
    pub fn set_line(&self, asserted: bool) {
        self.0.line.set_asserted(asserted);
    }

    /// Returns true if the device asserts INTx.
    pub fn line_is_asserted(&self) -> bool {
        self.0.line.is_asserted()
    }

    /// Signals the eventfd of ERR, to report a device error to the client (`CONTRACT.md`, E-03).
    pub fn raise_error(&self) {
        self.0.error.signal();
    }

    /// Signals the eventfd of REQ, to ask the client to release the device (`CONTRACT.md`, E-03).
    pub fn ask_for_release(&self) {
        self.0.release.signal();
    }
}

impl fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupts").field("vectors", &self.0.vectors).finish_non_exhaustive()
    }
}
