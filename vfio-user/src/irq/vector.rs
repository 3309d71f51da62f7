//! One vector of MSI or MSI-X: masks, the pending bit, and counts.

use super::guarded::Guarded;
use super::trigger::Trigger;
use std::sync::Arc;

/// The result of a raise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Raised {
    /// The server signalled the eventfd.
    Signalled,
    /// The vector is masked and now pending. The server signals the eventfd once, when the client
    /// unmasks the vector.
    Pending,
    /// No eventfd is attached. The interrupt is lost.
    Dropped,
}

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

/// The source of a mask. A vector is unmasked if no source masks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MaskSource {
    /// The client, by SET_IRQS.
    Request = 1,
    /// The guest, by the mask register of MSI.
    Register = 2,
    /// The guest, by the function mask of MSI-X.
    Function = 4,
}

#[derive(Default)]
struct State {
    /// The [`MaskSource`]s that mask the vector, a bit each.
    masks: u8,
    /// An interrupt was raised while the vector was masked.
    pending: bool,
    counts: VectorCounts,
}

impl State {
    fn set_mask(&mut self, source: MaskSource, masked: bool) {
        if masked {
            self.masks |= source as u8;
        } else {
            self.masks &= !(source as u8);
        }
    }

    /// Signals a pending interrupt if the vector is attached and unmasked.
    fn deliver_pending(&mut self, trigger: Option<&Trigger>) {
        if let Some(trigger) = trigger
            && self.masks == 0
            && std::mem::take(&mut self.pending)
        {
            trigger.signal();
        }
    }
}

/// One vector. Any thread may call any method. Vectors share no cache line: threads that raise
/// neighbours would slow each other down (false sharing).
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Vector(Guarded<State>);

impl Vector {
    /// Raises the vector. Returns the result.
    #[inline]
    pub(crate) fn raise(&self) -> Raised {
        self.0.with(|state, trigger| {
            let Some(trigger) = trigger else {
                state.counts.dropped += 1;
                return Raised::Dropped;
            };
            let raised = if state.masks == 0 {
                trigger.signal();
                Raised::Signalled
            } else {
                state.pending = true;
                Raised::Pending
            };
            state.counts.signals += 1;
            raised
        })
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.0.with(|state, _| state.pending)
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.0.with(|_, trigger| trigger.is_some())
    }

    pub(crate) fn is_masked(&self) -> bool {
        self.0.with(|state, _| state.masks != 0)
    }

    pub(crate) fn counts(&self) -> VectorCounts {
        self.0.with(|state, _| state.counts)
    }

    /// Changes the counts of requests.
    pub(crate) fn count(&self, change: impl FnOnce(&mut VectorCounts)) {
        self.0.with(|state, _| change(&mut state.counts));
    }

    /// Attaches an eventfd to a vector that has none, and sets or clears the mask of SET_IRQS. If
    /// the vector is then unmasked, signals a pending interrupt.
    pub(crate) fn attach(&self, trigger: Arc<Trigger>, masked: bool) {
        self.0.replace(Some(trigger), |state, trigger| {
            state.set_mask(MaskSource::Request, masked);
            state.deliver_pending(trigger);
        });
    }

    /// Replaces the eventfd. Returns the old eventfd, which no thread signals any more.
    pub(crate) fn retarget(&self, trigger: Arc<Trigger>) -> Option<Arc<Trigger>> {
        self.0.replace(Some(trigger), |state, _| state.counts.retargets += 1)
    }

    /// Detaches the eventfd. Masks and the pending bit stay. Returns the old eventfd, which no
    /// thread signals any more.
    pub(crate) fn detach(&self) -> Option<Arc<Trigger>> {
        self.0.replace(None, |_, _| ())
    }

    /// Sets or clears one mask. If no source masks the vector then, signals a pending interrupt.
    pub(crate) fn set_mask(&self, source: MaskSource, masked: bool) {
        self.0.with(|state, trigger| {
            state.set_mask(source, masked);
            state.deliver_pending(trigger);
        });
    }

    /// Clears the pending bit.
    pub(crate) fn clear_pending(&self) {
        self.0.with(|state, _| state.pending = false);
    }

    /// Clears the pending bit and the mask of SET_IRQS.
    pub(crate) fn disable(&self) {
        self.0.with(|state, _| {
            state.pending = false;
            state.set_mask(MaskSource::Request, false);
        });
    }

    /// Unblocks a thread that writes to the eventfd: see [`Guarded::make_room`].
    pub(crate) fn make_room(&self) {
        self.0.make_room();
    }
}
