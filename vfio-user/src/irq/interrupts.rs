//! The device's side of its interrupts.

use super::device_irqs::DeviceIrqs;
use super::vector::{Raised, Vector, VectorCounts};
use std::fmt;
use std::sync::Arc;

/// Raises the interrupts of a device. Clones share the interrupts, and any thread may use them.
///
/// [`Interrupts::raise`] takes the mutex of one vector and writes to its eventfd. It blocks only if
/// the client fills the counter of its own eventfd and clears `O_NONBLOCK`. The block ends when the
/// client changes the vector, when another client connects, or when the server stops. So one thread
/// should not raise for several clients that may be hostile. A signal handler must not raise: its
/// thread may hold the mutex.
///
/// A raise that races with a request delivers its interrupt exactly once. If the client replaces
/// the eventfd, the interrupt goes to the old or the new one (`CONTRACT.md`, B-02). If the client
/// masks the vector, the interrupt becomes pending and is signalled on unmask (B-03).
#[derive(Clone)]
pub struct Interrupts(pub(crate) Arc<DeviceIrqs>);

impl Interrupts {
    /// Raises a vector of MSI or MSI-X, whichever is enabled. Returns the result; a vector that
    /// does not exist is [`Raised::Dropped`].
    #[inline]
    pub fn raise(&self, vector: u32) -> Raised {
        self.0.vector(vector).map_or(Raised::Dropped, Vector::raise)
    }

    /// Returns true if the vector is pending (`CONTRACT.md`, B-03): its bit in the pending bits of
    /// MSI or MSI-X.
    pub fn is_pending(&self, vector: u32) -> bool {
        self.0.vector(vector).is_some_and(Vector::is_pending)
    }

    /// Returns true if the client has attached an eventfd to the vector.
    pub fn is_attached(&self, vector: u32) -> bool {
        self.0.vector(vector).is_some_and(Vector::is_attached)
    }

    /// Returns true if a request of the client or a register of the function masks the vector.
    pub fn is_masked(&self, vector: u32) -> bool {
        self.0.vector(vector).is_some_and(Vector::is_masked)
    }

    /// Returns the counts of the vector. They include every raise that has returned.
    pub fn counts(&self, vector: u32) -> VectorCounts {
        self.0.vector(vector).map(Vector::counts).unwrap_or_default()
    }

    /// Asserts or deasserts INTx. If INTx is still asserted when the client unmasks it, the server
    /// signals it again (`CONTRACT.md`, X-06).
    pub fn set_intx(&self, asserted: bool) {
        self.0.intx.set_asserted(asserted);
    }

    /// Returns true if the device asserts INTx.
    pub fn intx_is_asserted(&self) -> bool {
        self.0.intx.is_asserted()
    }

    /// Signals the eventfd of ERR, to report a device error to the client (`CONTRACT.md`, E-03).
    pub fn raise_err(&self) {
        self.0.err.raise();
    }

    /// Signals the eventfd of REQ, to ask the client to release the device (`CONTRACT.md`, E-03).
    pub fn raise_req(&self) {
        self.0.req.raise();
    }
}

impl fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupts").field("vectors", &self.0.vectors()).finish_non_exhaustive()
    }
}
