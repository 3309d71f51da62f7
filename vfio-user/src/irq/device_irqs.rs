//! All interrupts of one device: the vectors, INTx, ERR and REQ.

use super::guarded::Guarded;
use super::intx::Intx;
use super::trigger::Trigger;
use super::vector::{MaskSource, Vector};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Vectors that are allocated together, on first use. The trade-off: a device with a table of 2048
/// entries takes memory for the vectors in use, and a raise follows one more pointer.
const PAGE: usize = 64;

type Page = [Vector; PAGE];

/// ERR or REQ: an eventfd without a mask (`CONTRACT.md`, E-01 to E-05).
#[derive(Default)]
pub(crate) struct EventTrigger(Guarded<()>);

impl EventTrigger {
    pub(crate) fn is_set(&self) -> bool {
        self.0.with(|(), trigger| trigger.is_some())
    }

    /// Replaces the eventfd. When it returns, no thread signals the old eventfd.
    pub(crate) fn set(&self, trigger: Option<Arc<Trigger>>) {
        self.0.replace(trigger, |(), _| ());
    }

    /// Signals the eventfd, if one is set.
    pub(crate) fn raise(&self) {
        self.0.with(|(), trigger| trigger.iter().for_each(|trigger| trigger.signal()));
    }
}

/// The interrupts of a device. The device raises, the client's requests change.
pub(crate) struct DeviceIrqs {
    pages: Box<[OnceLock<Box<Page>>]>,
    vectors: u32,
    function_masked: AtomicBool,
    pub(crate) intx: Intx,
    pub(crate) err: EventTrigger,
    pub(crate) req: EventTrigger,
}

impl DeviceIrqs {
    pub(crate) fn new(vectors: u32) -> Self {
        let pages = (vectors as usize).div_ceil(PAGE);
        Self {
            pages: std::iter::repeat_with(OnceLock::new).take(pages).collect(),
            vectors,
            function_masked: AtomicBool::new(false),
            intx: Intx::default(),
            err: EventTrigger::default(),
            req: EventTrigger::default(),
        }
    }

    /// Returns the number of vectors.
    pub(crate) fn vectors(&self) -> u32 {
        self.vectors
    }

    /// Returns a vector, or `None` if the vector was never used.
    #[inline]
    pub(crate) fn vector(&self, number: u32) -> Option<&Vector> {
        let number = number as usize;
        self.pages.get(number / PAGE)?.get()?.get(number % PAGE)
    }

    /// Returns a vector and allocates it if necessary. Returns `None` beyond the last vector.
    pub(crate) fn ensure(&self, number: u32) -> Option<&Vector> {
        if number >= self.vectors {
            return None;
        }
        let page = self.pages.get(number as usize / PAGE)?.get_or_init(|| {
            let page: Box<Page> = Box::new(std::array::from_fn(|_| Vector::default()));
            let masked = self.function_masked.load(Ordering::Relaxed);
            page.iter().for_each(|vector| vector.set_mask(MaskSource::Function, masked));
            page
        });
        page.get(number as usize % PAGE)
    }

    /// Returns all vectors that were ever used, in order.
    pub(crate) fn used(&self) -> impl Iterator<Item = &Vector> {
        self.pages.iter().filter_map(OnceLock::get).flat_map(|page| page.iter())
    }

    /// Sets or clears the function mask of MSI-X, which masks all vectors.
    pub(crate) fn mask_function(&self, masked: bool) {
        if self.function_masked.swap(masked, Ordering::Relaxed) != masked {
            self.used().for_each(|vector| vector.set_mask(MaskSource::Function, masked));
        }
    }

    /// Applies a change of the mask register of MSI, which has one bit per vector.
    pub(crate) fn mask_register(&self, vectors: u32, before: u32, now: u32) {
        for number in (0..vectors.min(32)).filter(|number| (before ^ now) >> number & 1 != 0) {
            if let Some(vector) = self.ensure(number) {
                vector.set_mask(MaskSource::Register, now >> number & 1 != 0);
            }
        }
    }

    /// Unblocks every thread that writes to an eventfd whose counter the client has filled.
    pub(crate) fn make_room(&self) {
        self.used().for_each(Vector::make_room);
        self.intx.make_room();
        self.err.0.make_room();
        self.req.0.make_room();
    }

    /// Clears all pending bits and deasserts INTx, because the device was reset.
    pub(crate) fn reset(&self) {
        self.used().for_each(Vector::clear_pending);
        self.intx.set_asserted(false);
    }
}
