//! The simulated device, which sends jobs to a machine in its own thread.

use super::machine::{Identified, Identity, Machine};
use super::{Errno, IrqCaps};
use crate::{Data, Index, Info, SetIrqs, Transport, Trigger};
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// A simulated device with its host.
///
/// The engine runs in its own thread, so that threads can share the device like a real one.
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
#[derive(Debug)]
pub struct Simulated {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce(&mut Machine) + Send>;

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
        let (jobs, inbox) = mpsc::channel::<Job>();
        let thread = std::thread::spawn(move || {
            let mut machine = Machine::new(caps);
            inbox.into_iter().for_each(|job| job(&mut machine));
        });
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Raises a vector of MSI or MSI-X, as the device does.
    pub fn raise(&self, number: u32) {
        self.run((), move |machine| {
            machine.sim.raise(number);
            machine.deliver_vector(number);
        });
    }

    /// Asserts INTx, as the device does.
    pub fn assert_intx(&self) {
        self.run((), |machine| {
            machine.sim.raise_intx();
            machine.deliver();
        });
    }

    /// Returns the number of interrupts that signalled no eventfd.
    pub fn lost(&self) -> u64 {
        self.run(0, |machine| machine.sim.lost())
    }

    /// Returns the number of allocated interrupts of the host.
    pub fn allocated(&self) -> usize {
        self.run(0, |machine| machine.sim.allocated())
    }

    /// Returns the number of SET_IRQS requests so far.
    pub fn requests(&self) -> u64 {
        self.run(0, |machine| machine.requests)
    }

    /// Sets the number of interrupts that the host can allocate.
    pub fn set_interrupts(&self, interrupts: u32) {
        self.run((), move |machine| machine.sim.set_interrupts(interrupts));
    }

    /// Makes the `n`-th fallible step from now on fail with this error, once. `n` counts from 0.
    pub fn fail_step(&self, n: u64, errno: Errno) {
        self.run((), move |machine| machine.sim.fail_step(n, errno));
    }

    /// Cancels the failure that [`Simulated::fail_step`] requested. Returns true if it had not
    /// happened yet.
    pub fn disarm(&self) -> bool {
        self.run(false, |machine| machine.sim.disarm())
    }

    /// Returns all interrupt state that user space can observe, as text. If two texts are equal,
    /// nothing has changed.
    pub fn visible(&self) -> String {
        self.run(String::new(), |machine| machine.sim.visible())
    }

    /// Returns the state that is still held after every resource should be released, or `None` if
    /// all are released.
    pub fn leaks(&self) -> Option<String> {
        self.run(None, |machine| machine.sim.leaks())
    }

    /// Tells the host that an eventfd was signalled. If it is the armed resample eventfd, INTx is
    /// unmasked. A real host polls the eventfd itself ([`crate::Intx::set_resample`]).
    pub fn signal(&self, trigger: &Trigger) {
        let identity = Identity::of(trigger.as_fd());
        self.run((), move |machine| {
            if let Ok(Identity::Eventfd(id)) = identity {
                machine.signal(id);
                machine.deliver();
            }
        });
    }

    /// Runs a job on the machine. Returns its result, or `missing` if the machine's thread has
    /// panicked.
    fn run<R: Send + 'static>(
        &self,
        missing: R,
        job: impl FnOnce(&mut Machine) -> R + Send + 'static,
    ) -> R {
        let (answer, wait) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |machine| {
            // The send fails only if the caller has returned, which needs no answer.
            let _ = answer.send(job(machine));
        });
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if sent { wait.recv().unwrap_or(missing) } else { missing }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the simulated device is gone")
}

impl Transport for Simulated {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        self.run(Err(gone()), move |machine| Ok(machine.info(index)))
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        let bytes = request.to_bytes();
        // Duplicates, since the kernel holds references to files, not to descriptor numbers.
        let fds = match request.data {
            Data::Eventfd(fds) => fds.iter().map(|fd| fd.map(Identified::new)).collect(),
            Data::None { .. } | Data::Bool(_) => Vec::new(),
        };
        self.run(Err(gone()), move |machine| machine.set_irqs(&bytes, fds))
    }
}
