//! A device that exists only in memory, answered by the engine: for tests of whatever is written on
//! [`crate::Vectors`]. Its eventfds are real ones.
//!
//! ```
//! use vfio_irq::{Index, Trigger, Vectors, sim::Simulated};
//! use std::sync::Arc;
//!
//! let device = Arc::new(Simulated::new());
//! let vectors = Vectors::open(Arc::clone(&device), Index::Msix)?;
//! let trigger = Trigger::new()?;
//! let vector = vectors.enable(7, &trigger)?;
//! device.raise(7);
//! assert_eq!(trigger.take(), 1);
//! # Ok::<(), vfio_irq::Error>(())
//! ```

use crate::{Data, Index, Info, SetIrqs, Transport, Trigger};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::mpsc;
use std::thread::JoinHandle;
use vfio_irq_engine::abi::{self, Header};
use vfio_irq_engine::sim::{Sim, SimVector};
use vfio_irq_engine::{Device, Gate, Refusal};

pub use vfio_irq_engine::Errno;
pub use vfio_irq_engine::Retention;
pub use vfio_irq_engine::sim::Shape;

/// A simulated device with its host.
///
/// The engine lives in a thread of its own, so that the device can be shared like a real one.
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
        Self::with(Shape::default())
    }

    /// A device and a host of this shape.
    pub fn with(shape: Shape) -> Self {
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
            machine.sim.pull();
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

    /// An eventfd that masks or unmasks was signalled: what a host would notice by itself.
    pub fn watch_fired(&self, trigger: &Trigger) {
        let identity = Identity::of(trigger.as_fd());
        self.run((), move |machine| {
            if let Ok(Identity::Eventfd(id)) = identity {
                machine.watch_fired(id);
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
        self.run(Err(gone()), move |machine| Ok(machine.device.info(&machine.sim, index)))
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

/// Which eventfd a descriptor is, whatever its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    Eventfd(u64),
    Other,
}

impl Identity {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
        let id = text.lines().find_map(|line| line.strip_prefix("eventfd-id:"));
        Ok(id.and_then(|id| id.trim().parse().ok()).map_or(Self::Other, Self::Eventfd))
    }
}

struct Identified {
    identity: Identity,
    file: Option<Trigger>,
}

impl Identified {
    fn new(fd: BorrowedFd<'_>) -> Self {
        let identity = Identity::of(fd).unwrap_or(Identity::Other);
        Self { identity, file: fd.try_clone_to_owned().ok().map(Trigger::from) }
    }
}

/// An eventfd as the simulated platform knows it.
struct Known {
    number: i32,
    file: Trigger,
    /// Signals that were passed on.
    seen: u64,
}

struct Machine {
    sim: Sim,
    device: Device<Sim>,
    eventfds: BTreeMap<u64, Known>,
    /// Which eventfd has a number of the platform's.
    identities: BTreeMap<i32, u64>,
    vectors: u32,
    requests: u64,
}

impl Machine {
    fn new(shape: Shape) -> Self {
        let sim = Sim::with(shape);
        let device = Device::new(sim.slots());
        let vectors = shape.msi.max(shape.msix);
        Self {
            sim,
            device,
            eventfds: BTreeMap::new(),
            identities: BTreeMap::new(),
            vectors,
            requests: 0,
        }
    }

    /// The platform's number for a descriptor.
    fn number(&mut self, fd: Identified) -> i32 {
        match (fd.identity, fd.file) {
            (Identity::Eventfd(id), Some(file)) => {
                let sim = &mut self.sim;
                let new = || Known { number: sim.eventfd(), file, seen: 0 };
                let number = self.eventfds.entry(id).or_insert_with(new).number;
                self.identities.insert(number, id);
                number
            }
            _ => self.sim.other_file(),
        }
    }

    fn set_irqs(&mut self, bytes: &[u8], fds: Vec<Option<Identified>>) -> io::Result<u32> {
        self.requests += 1;
        let fault = || errno(Errno::EFAULT);
        let (header, data) = bytes.split_first_chunk::<{ Header::LEN }>().ok_or_else(fault)?;
        let mut data = data.to_vec();
        for (at, fd) in data.chunks_exact_mut(4).zip(fds) {
            let number = fd.map_or(-1, |fd| self.number(fd));
            at.copy_from_slice(&number.to_ne_bytes());
        }
        let header = Header::from_bytes(header);
        let checked = self.device.check(&self.sim, header).map_err(errno)?;
        let request = checked.request(&data).map_err(errno)?;
        let outcome = self.device.set_irqs(&mut self.sim, &request);
        match request.data() {
            // Only these can have been signalled: with what was pending.
            abi::Data::Eventfd(_) => request.range().numbers().for_each(|n| self.deliver_vector(n)),
            abi::Data::None | abi::Data::Bool(_) => self.deliver(),
        }
        match outcome {
            Ok(()) => Ok(0),
            Err(Refusal::TooFew(there)) if there > 0 => Ok(there),
            Err(Refusal::TooFew(_)) => Err(errno(Errno::ENOSPC)),
            Err(Refusal::Errno(why)) => Err(errno(why)),
        }
    }

    fn watch_fired(&mut self, id: u64) {
        let Some(number) = self.eventfds.get(&id).map(|known| known.number) else { return };
        for vector in 0..self.vectors {
            for gate in [Gate::Masked, Gate::Open] {
                let vectors = self.device.vectors_mut();
                vectors.watch_fired(&mut self.sim, vector, gate, |watch| watch.fd() == number);
            }
        }
    }

    /// Passes signals on to the real eventfds.
    fn deliver(&mut self) {
        for known in self.eventfds.values_mut() {
            known.deliver(&self.sim);
        }
    }

    /// The same where only this vector can have signalled.
    fn deliver_vector(&mut self, vector: u32) {
        let slot = self.device.vectors().slot(vector);
        let number = slot.and_then(|slot| slot.vector()).map(SimVector::fd);
        let id = number.and_then(|number| self.identities.get(&number));
        if let Some(known) = id.and_then(|id| self.eventfds.get_mut(id)) {
            known.deliver(&self.sim);
        }
    }
}

impl Known {
    fn deliver(&mut self, sim: &Sim) {
        let signals = sim.signals(self.number);
        for _ in self.seen..signals {
            // An eventfd was recognised as one, and takes a signal.
            let _ = self.file.signal();
        }
        self.seen = signals;
    }
}

fn errno(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw())
}
