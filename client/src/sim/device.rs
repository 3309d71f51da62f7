//! The simulated device, which threads can share.

use super::machine::Machine;
use super::{Errno, IrqCaps};
use crate::{Index, Info, SetIrqs, Transport, Trigger};
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A simulated device with its host.
///
/// Threads can share the device like a real one: a lock serializes their calls.
///
/// ```
/// use vfio_irq::sim::{IrqCaps, Simulated};
/// use vfio_irq::{Index, NoResize, Trigger, Vectors};
/// use std::sync::Arc;
/// // The test and the tested code share the device.
/// let device = Arc::new(Simulated::with(IrqCaps { dynamic: false, ..IrqCaps::default() }));
/// let vectors = Vectors::open(Arc::clone(&device), Index::Msix)?;
/// let vector = vectors.enable(1, Trigger::new()?)?;
/// device.raise(1);
/// assert_eq!((vector.trigger()?.take(), device.lost()), (1, 0));
/// drop(vectors);
/// assert_eq!(device.leaks(), None, "every resource is released");
/// # Ok::<(), vfio_irq::Error>(())
/// ```
pub struct Simulated(Mutex<Machine>);

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Simulated").field(&self.visible()).finish()
    }
}

impl Default for Simulated {
    fn default() -> Self {
        Self::new()
    }
}

impl Simulated {
    /// Returns a device with 8 MSI vectors, 64 MSI-X vectors and a pin. Its host adds vectors
    /// while others are in use.
    pub fn new() -> Self {
        Self::with(IrqCaps::default())
    }

    /// Returns a device and a host with these capabilities.
    pub fn with(caps: IrqCaps) -> Self {
        Self(Mutex::new(Machine::new(caps)))
    }

    /// Raises a vector of MSI or MSI-X, as the device does.
    pub fn raise(&self, number: u32) {
        let mut machine = self.lock();
        machine.sim.raise(number);
        machine.deliver_vector(number);
    }

    /// Asserts INTx, as the device does.
    pub fn assert_intx(&self) {
        let mut machine = self.lock();
        machine.sim.raise_intx();
        machine.deliver();
    }

    /// Returns the number of interrupts that signalled no eventfd.
    pub fn lost(&self) -> u64 {
        self.lock().sim.lost()
    }

    /// Returns the number of allocated interrupts of the host.
    pub fn allocated(&self) -> usize {
        self.lock().sim.allocated()
    }

    /// Returns the number of SET_IRQS requests so far.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// Sets the number of interrupts that the host can allocate.
    pub fn set_interrupts(&self, interrupts: u32) {
        self.lock().sim.set_interrupts(interrupts);
    }

    /// Makes the `n`-th fallible step from now on fail with this error, once. `n` counts from 0.
    pub fn fail_step(&self, n: u64, errno: Errno) {
        self.lock().sim.fail_step(n, errno);
    }

    /// Cancels the failure that [`Simulated::fail_step`] requested. Returns true if it had not
    /// happened yet.
    pub fn disarm(&self) -> bool {
        self.lock().sim.disarm()
    }

    /// Returns all interrupt state that user space can observe, as text. If two texts are equal,
    /// nothing has changed.
    pub fn visible(&self) -> String {
        self.lock().sim.visible()
    }

    /// Returns the state that is still held after every resource should be released, or `None` if
    /// all are released.
    pub fn leaks(&self) -> Option<String> {
        self.lock().sim.leaks()
    }

    /// Tells the host that an eventfd was signalled. If it is the armed resample eventfd, INTx is
    /// unmasked. A real host polls the eventfd itself ([`crate::Intx::set_resample`]).
    pub fn signal(&self, trigger: &Trigger) {
        self.lock().signal(trigger);
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for Simulated {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        Ok(self.lock().info(index))
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        self.lock().set_irqs(request)
    }
}
