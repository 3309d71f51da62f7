//! An emulated NVMe 1.4 controller with many queues, each with a vector of its own: a device of
//! `vfio-irq-user`. The NVMe driver of a guest can boot from it.
//!
//! ```no_run
//! use vfio_irq_nvme_device::{Controller, Disk, Settings};
//! use vfio_irq_user::{Options, Server};
//!
//! let settings = Settings { queues: 64, serial: "S3RIAL".into() };
//! let disk = Disk::open("/var/lib/disk.img".as_ref())?;
//! let server = Server::start(Options::default())?;
//! let function = settings.function()?;
//! server.add("/run/nvme.sock", function, |bus| Controller::new(bus, disk, &settings))?;
//! server.wait();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The thread that serves the client handles registers; a worker thread handles queues, features
//! and data (`worker.rs`). They share one word per doorbell, one bit per doorbell, and a few flags
//! (`run.rs`). So the serving thread never waits for the worker.

mod admin;
mod counts;
mod data;
mod disk;
mod events;
mod features;
mod identify;
mod io;
mod logs;
mod prp;
mod queue;
mod queues;
mod registers;
mod run;
mod shadow_doorbells;
mod state;
mod worker;

pub use counts::{Counts, Totals};
pub use disk::{BLOCK, Disk, DiskError};

use counts::Counters;
use registers::{Registers, Wish};
use run::Run;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use tracing::{info, warn};
use vfio_irq_nvme_spec::Status;
use vfio_irq_nvme_spec::register::DOORBELLS;
use vfio_irq_user::pci::{Bar, Function, FunctionError};
use vfio_irq_user::{Bus, Device, Errno};
use worker::Worker;

/// The limit of I/O queues of a controller.
const MOST_QUEUES: u16 = 1024;

/// The offsets of the MSI-X table and the PBA.
const TABLE: u32 = 0x8000;
const PENDING: u32 = 0xe000;

/// The size of the BAR in bytes.
const SIZE: u64 = 0x1_0000;

/// The limit of log messages about one client's errors.
const COMPLAINTS: u32 = 16;

/// The configuration of a controller.
///
/// ```
/// use vfio_irq_nvme_device::Settings;
///
/// // As many queues as a guest with many processors may want; they cost nothing before they are used.
/// let settings = Settings { queues: 1024, serial: "S3RIAL".into() };
/// assert_eq!(settings.function()?.vectors(), 1025);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// I/O queues that a guest may create: 1 to 1024. Each has its own vector.
    pub queues: u16,
    /// The serial number; the guest sees at most 20 characters.
    pub serial: String,
}

impl Settings {
    fn queues(&self) -> u16 {
        self.queues.clamp(1, MOST_QUEUES)
    }

    /// Builds the PCI function: registers and doorbells in BAR 0, and one vector per queue.
    ///
    /// # Errors
    ///
    /// No settings cause an error; the builder's errors are passed on.
    pub fn function(&self) -> Result<Function, FunctionError> {
        // Drivers match the class code, not these numbers.
        Function::builder(0x1234, 0x4e4d)
            .class(0x01, 0x08, 0x02)
            .subsystem(0x1234, 0x4e4d)
            .bar(0, Bar::memory64(SIZE))
            .msix(u32::from(self.queues()) + 1, 0, TABLE, PENDING)
            .power_management()
            .pcie()
            .build()
    }
}

/// The result of a command: the first word of its completion, or an error status.
type Answer = Result<u32, Status>;

/// The state that outlives one enabling of the controller.
struct Common {
    bus: Bus,
    disk: Disk,
    serial: String,
    queues: u16,
    counters: Counters,
    /// Messages about this client, to limit the log rate.
    complaints: AtomicU32,
}

impl Common {
    /// Returns true if another error of the client may be logged.
    fn may_complain(&self) -> bool {
        self.complaints.fetch_add(1, Ordering::Relaxed) < COMPLAINTS
    }
}

/// The worker of an enabled controller.
struct Running {
    run: Arc<Run>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Publishes something to the worker, and then wakes it.
    fn tell(&self, words: impl FnOnce(&Run)) {
        words(&self.run);
        self.thread.thread().unpark();
    }
}

/// An NVMe 1.4 controller with one namespace, in blocks of 512 bytes.
///
/// ```
/// use vfio_irq_nvme_device::{Controller, Disk, Settings};
/// use vfio_irq_user::{Endpoint, Grants, Session};
///
/// let settings = Settings { queues: 2, serial: "embedded".into() };
/// let disk = Disk::memory(1 << 20)?;
/// // A device like any other: behind a `Server`, or behind whatever moves bytes for you.
/// let make = |bus| Controller::new(bus, disk, &settings);
/// let mut endpoint = Endpoint::new(settings.function()?, make);
/// let session = Session::new(&mut endpoint, Grants { transfer: 4096, dma_maps: 16 });
/// assert_eq!(session.active(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Controller {
    common: Arc<Common>,
    registers: Registers,
    bus_master: bool,
    running: Option<Running>,
    /// The counts when the client connected.
    before: Totals,
}

impl Controller {
    /// Creates a controller with its disk.
    pub fn new(bus: Bus, disk: Disk, settings: &Settings) -> Self {
        let queues = settings.queues();
        let serial = settings.serial.chars().filter(char::is_ascii_graphic).take(20).collect();
        let (counters, complaints) = (Counters::default(), AtomicU32::new(0));
        let common = Common { bus, disk, serial, queues, counters, complaints };
        Self {
            common: Arc::new(common),
            registers: Registers::default(),
            bus_master: false,
            running: None,
            before: Totals::default(),
        }
    }

    /// Returns a handle to the counts.
    pub fn counts(&self) -> Counts {
        Counts(Arc::clone(&self.common))
    }

    fn status(&self) -> u32 {
        self.running.as_ref().map_or(0, |running| running.run.status())
            | self.registers.own_status()
    }

    fn enable(&mut self) {
        self.halt();
        let Some(setup) = self.registers.setup() else {
            if self.common.may_complain() {
                warn!(serial = %self.common.serial, "the guest enabled the controller with registers that make no sense");
            }
            self.registers.fail();
            return;
        };
        let run = Arc::new(Run::new(self.common.queues, self.bus_master));
        let worker = Worker::new(Arc::clone(&self.common), Arc::clone(&run), setup);
        let thread = std::thread::Builder::new().name("nvme".into()).stack_size(256 << 10);
        match thread.spawn(move || worker.work()) {
            Ok(thread) => self.running = Some(Running { run, thread }),
            Err(error) => {
                warn!(serial = %self.common.serial, %error, "a controller stays off: no thread for it");
                self.registers.fail();
            }
        }
    }

    /// Stops the worker after its current command, and waits for it. If a command waits for the
    /// client, the quiesce ends it with an error: the client may be waiting for this thread
    /// (deadlock).
    fn halt(&mut self) {
        if let Some(running) = self.running.take() {
            running.tell(Run::stop);
            let _quiesced = self.common.bus.memory.quiesce();
            if running.thread.join().is_err() {
                warn!(serial = %self.common.serial, "the thread of a controller has died");
            }
        }
    }

    fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.run.is_stopping())
    }

    /// Publishes something to the worker.
    fn tell(&self, words: impl FnOnce(&Run)) {
        if let Some(running) = &self.running {
            running.tell(words);
        }
    }

    fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Nothing => {}
            Wish::Enable => self.enable(),
            // The guest polls CSTS.RDY, so this thread need not wait.
            Wish::Disable => self.tell(Run::stop),
            Wish::Shutdown if self.is_running() => self.tell(Run::shut_down),
            Wish::Shutdown => self.registers.shut_down(),
        }
    }
}

impl Device for Controller {
    fn read(&mut self, _bar: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let registers = self.registers.image(self.status());
        for (at, byte) in (offset..).zip(data) {
            let place = usize::try_from(at).ok().and_then(|at| registers.get(at));
            *byte = place.copied().unwrap_or(0);
        }
        Ok(())
    }

    /// Ignores invalid accesses, as hardware does.
    fn write(&mut self, _bar: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        if offset < DOORBELLS {
            let wish = self.registers.write(offset, data);
            self.grant(wish);
        } else if let Ok(value) = data.try_into()
            && offset.is_multiple_of(4)
        {
            let place = usize::try_from((offset - DOORBELLS) / 4).unwrap_or(usize::MAX);
            counts::add(&self.common.counters.doorbells, 1);
            self.tell(|run| run.ring(place, u32::from_le_bytes(value)));
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.halt();
        self.registers = Registers::default();
        self.bus_master = false;
    }

    fn connected(&mut self) {
        self.before = self.counts().totals();
        self.common.complaints.store(0, Ordering::Relaxed);
    }

    fn disconnected(&mut self) {
        // The counts are final once the worker has ended.
        self.halt();
        let counts = self.counts().totals().since(&self.before);
        info!(serial = %self.common.serial, "this client: {counts}");
    }

    fn bus_master(&mut self, on: bool) {
        self.bus_master = on;
        self.tell(|run| run.allow(on));
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.halt();
    }
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("serial", &self.common.serial).finish_non_exhaustive()
    }
}
