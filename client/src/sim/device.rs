//! The device: jobs for a machine in a thread of its own.

use super::machine::{Identified, Identity, Machine};
use super::{Errno, IrqCaps};
use crate::{Data, Index, Info, SetIrqs, Transport, Trigger};
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// A simulated device with its host.
///
/// The engine lives in a thread of its own, so that the device can be shared like a real one.
///
/// ```
/// use vfio_irq::sim::{IrqCaps, Simulated};
/// use vfio_irq::{Index, NoResize, Trigger, Vectors};
/// use std::sync::Arc;
/// // A test holds one end of the device, what is tested has the other.
/// let device = Arc::new(Simulated::with(IrqCaps { dynamic: false, ..IrqCaps::default() }));
/// let vectors = Vectors::open(Arc::clone(&device), Index::Msix)?;
/// let vector = vectors.enable(1, Trigger::new()?)?;
/// device.raise(1);
/// assert_eq!((vector.trigger()?.take(), device.lost()), (1, 0));
/// drop(vectors);
/// assert_eq!(device.leaks(), None, "everything was given back");
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
    /// 8 MSI vectors, 64 of MSI-X and a pin, on a host that adds vectors while others run.
    pub fn new() -> Self {
        Self::with(IrqCaps::default())
    }

    /// A device and a host of this shape.
    pub fn with(shape: IrqCaps) -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let thread = std::thread::spawn(move || {
            let mut machine = Machine::new(shape);
            inbox.into_iter().for_each(|job| job(&mut machine));
        });
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    /// The device raises a vector of MSI or MSI-X.
    pub fn raise(&self, number: u32) {
        self.run((), move |machine| {
            machine.sim.raise(number);
            machine.deliver_vector(number);
        });
    }

    /// The device pulls its interrupt line.
    pub fn pull(&self) {
        self.run((), |machine| {
            machine.sim.raise_intx();
            machine.deliver();
        });
    }

    /// Interrupts that nobody was told of.
    pub fn lost(&self) -> u64 {
        self.run(0, |machine| machine.sim.lost())
    }

    /// Interrupts of the host in use.
    pub fn allocated(&self) -> usize {
        self.run(0, |machine| machine.sim.allocated())
    }

    /// Requests to set interrupts that the device got so far.
    pub fn requests(&self) -> u64 {
        self.run(0, |machine| machine.requests)
    }

    /// Changes how many interrupts the host has in all.
    pub fn set_interrupts(&self, interrupts: u32) {
        self.run((), move |machine| machine.sim.set_interrupts(interrupts));
    }

    /// Makes the `n`-th step from here that could fail do so, once.
    pub fn fail_step(&self, n: u64, errno: Errno) {
        self.run((), move |machine| machine.sim.fail_step(n, errno));
    }

    /// Whether that failure is still to come; calls it off.
    pub fn disarm(&self) -> bool {
        self.run(false, |machine| machine.sim.disarm())
    }

    /// What user space could notice of the interrupts: equal texts, nothing changed.
    pub fn visible(&self) -> String {
        self.run(String::new(), |machine| machine.sim.visible())
    }

    /// What is still in use although nothing should be; `None`: nothing.
    pub fn leaks(&self) -> Option<String> {
        self.run(None, |machine| machine.sim.leaks())
    }

    /// An eventfd was signalled. If it is armed to unmask the line, the line is unmasked: a real host
    /// notices by itself ([`crate::Line::set_resample`]).
    pub fn fire(&self, trigger: &Trigger) {
        let identity = Identity::of(trigger.as_fd());
        self.run((), move |machine| {
            if let Ok(Identity::Eventfd(id)) = identity {
                machine.fire(id);
                machine.deliver();
            }
        });
    }

    /// Has the machine do something; `missing` if its thread is gone, which is so only after a panic.
    fn run<R: Send + 'static>(
        &self,
        missing: R,
        job: impl FnOnce(&mut Machine) -> R + Send + 'static,
    ) -> R {
        let (answer, wait) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |machine| {
            // A caller that is gone needs no answer.
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
        // Duplicates, as the kernel holds files and not numbers.
        let fds = match request.data {
            Data::Eventfd(fds) => fds.iter().map(|fd| fd.map(Identified::new)).collect(),
            Data::None { .. } | Data::Bool(_) => Vec::new(),
        };
        self.run(Err(gone()), move |machine| machine.set_irqs(&bytes, fds))
    }
}
