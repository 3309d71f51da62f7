//! A user-space driver for NVMe controllers. Each queue has its own vector, which is attached and
//! detached with the queue.
//!
//! See [`Queue`] for several commands in flight.
//!
//! # What holds
//!
//! The controller is not trusted. The driver checks what the controller writes, and returns an
//! [`Error`] if it is invalid. The controller can access the memory of its queues and of
//! [`Buffer`]s only.
//!
//! One thread uses a queue at a time; several threads use several queues. Creating and deleting
//! queues takes a lock. Using queues takes no lock.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod admin;
mod buffer;
#[cfg(feature = "vfio-ioctls")]
mod device;
mod error;
mod function;
mod interrupts;
mod memory;
mod pair;
mod queue;
mod registers;
mod request;
mod ring;
mod socket;
mod space;
mod start;
#[cfg(feature = "vfio-ioctls")]
mod sys;

pub use buffer::Buffer;
#[cfg(feature = "vfio-ioctls")]
pub use device::Device;
pub use error::Error;
pub use function::Function;
pub use interrupts::Method;
pub use memory::Memory;
pub use queue::Queue;
pub use request::Request;
pub use ring::Completion;
pub use socket::Socket;
pub use vfio_irq_nvme_spec::Status;

use admin::{Admin, NotCreated};
use function::AnyFunction;
use interrupts::Interrupts;
use pair::Pair;
use registers::Registers;
use ring::Ring;
use space::Space;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vfio_irq::Trigger;

/// The options of a driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The method of adding vectors.
    pub method: Method,
    /// I/O queues at most.
    pub queues: u16,
    /// The time limit of admin commands and of the blocking calls of [`Queue`].
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { method: Method::default(), queues: u16::MAX, timeout: Duration::from_secs(10) }
    }
}

/// The identity and limits of a controller and its first namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Info {
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Firmware revision.
    pub firmware: String,
    /// The number of blocks of the namespace.
    pub blocks: u64,
    /// The block size in bytes.
    pub block: u64,
    /// The limit of data bytes per command.
    pub transfer: u64,
    /// The controller supports Write Zeroes.
    pub write_zeroes: bool,
    /// I/O queues at most.
    pub queues: u16,
    /// Entries of an I/O queue at most; one of them stays empty.
    pub entries: u16,
}

/// The counts of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Completions that the driver took.
    pub completions: u64,
    /// Signals of the eventfd. One signal may stand for several completions, or for none.
    pub signals: u64,
    /// Completions that the driver took by polling, without a signal.
    pub polled: u64,
    /// Lost interrupts: a poll found a completion that had been there for a second without a
    /// signal.
    pub stalls: u64,
}

/// An enabled controller. Dropping it shuts the controller down. Remaining queues then fail with
/// [`Error::Closed`], and threads that wait for them are woken.
///
/// ```no_run
/// use vfio_irq_nvme_driver::{Driver, Options, Socket};
///
/// let driver = Driver::open(Socket::connect("/run/nvme.sock")?, Options::default())?;
/// let mut queue = driver.create_queue(64)?;
/// let buffer = driver.buffer(4096)?;
/// buffer.write(0, b"data")?;
/// queue.write(0, &buffer)?;
/// queue.flush()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Driver(Arc<Shared>);

/// The state that a driver and its queues share.
struct Shared {
    registers: Registers,
    interrupts: Interrupts,
    space: Arc<Space>,
    function: AnyFunction,
    info: Info,
    timeout: Duration,
    admin: Mutex<Admin>,
    closed: AtomicBool,
}

impl Shared {
    fn admin(&self) -> MutexGuard<'_, Admin> {
        // Poison is ignored: the driver checks the state against the controller's answers.
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Returns an error if commands can no longer complete.
    fn check(&self) -> Result<(), Error> {
        self.check_open()?;
        self.registers.check()
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("info", &self.0.info).finish_non_exhaustive()
    }
}

impl Driver {
    /// Resets and enables a controller (CC.EN), and identifies it (Identify). Returns the driver.
    ///
    /// # Errors
    ///
    /// - [`Error::Unfit`] if this driver cannot use the controller
    /// - [`Error::NotReady`], [`Error::Fatal`] or [`Error::Gone`] if the controller does not start
    /// - [`Error::Interrupt`] if no vector can be attached
    pub fn open(function: impl Function + 'static, options: Options) -> Result<Self, Error> {
        start::start(Arc::new(function), &options).map(|shared| Self(Arc::new(shared)))
    }

    /// Returns the identity and limits of the controller.
    pub fn info(&self) -> &Info {
        &self.0.info
    }

    /// Returns the counts of the admin queue.
    pub fn admin_stats(&self) -> Stats {
        self.0.admin().pair.stats
    }

    /// Allocates a buffer of `len` bytes, which the controller can access.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Memory`] if the allocation fails, and [`Error::Request`] if `len` is 0 or
    /// exceeds [`Info::transfer`].
    pub fn buffer(&self, len: usize) -> Result<Buffer, Error> {
        let mut buffers = self.buffers(1, len)?;
        buffers.pop().ok_or_else(|| Error::Request("a buffer needs a length".into()))
    }

    /// Allocates several buffers in one mapping, which is cheaper than separate buffers.
    ///
    /// # Errors
    ///
    /// As [`Driver::buffer`].
    pub fn buffers(&self, count: usize, len: usize) -> Result<Vec<Buffer>, Error> {
        self.0.check_open()?;
        let most = self.0.info.transfer;
        if len == 0 || len as u64 > most {
            return Err(Error::Request(format!(
                "a buffer of {len} bytes is no use: a command moves 1 to {most}"
            )));
        }
        Buffer::many(&self.0.space, self.0.registers.limits.page, count, len)
    }

    /// Creates an I/O queue for `depth` commands, or fewer if the controller's limit is lower.
    /// Attaches its vector. Other queues may be in use.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NoQueue`], [`Error::Interrupt`], [`Error::Memory`], or [`Error::Status`]
    /// with the status of the controller. Nothing is left allocated then.
    pub fn create_queue(&self, depth: u16) -> Result<Queue, Error> {
        let shared = &self.0;
        let Registers { limits, .. } = &shared.registers;
        let mut admin = shared.admin();
        shared.check_open()?;
        let most = shared.info.queues;
        let id = (1..=most).find(|id| !admin.queues.contains_key(id));
        let id = id.ok_or(Error::NoQueue { most })?;
        let entries = depth.saturating_add(1).clamp(2, limits.entries);
        let function = Arc::clone(&shared.function);
        let (page, bells) = (limits.page, limits.bells(id));
        let mut ring = Ring::new(function, &shared.space, page, (id, entries), bells)?;
        let trigger = Trigger::new()?;
        let vector = shared.interrupts.attach(id.into(), &trigger)?;
        if let Err(NotCreated { error, remains }) = admin.create(&shared.registers, &ring) {
            if remains {
                admin.queues.insert(id, None);
                admin.lost.extend(ring.held());
            }
            return Err(error);
        }
        admin.queues.insert(id, Some(trigger.clone()));
        drop(admin);
        Ok(Queue::new(Arc::clone(shared), Pair::new(ring, trigger, vector)))
    }

    /// Shuts the controller down (CC.SHN). Dropping the driver does the same, but only logs errors.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotReady`] or another error if the controller does not shut down cleanly.
    /// Bus mastering is off in any case, unless the device does not respond.
    pub fn close(self) -> Result<(), Error> {
        self.shut_down()
    }

    fn shut_down(&self) -> Result<(), Error> {
        let shared = &self.0;
        let mut admin = shared.admin();
        if std::mem::replace(&mut admin.closed, true) {
            return Ok(());
        }
        shared.closed.store(true, Ordering::Release);
        // No completion will wake the waiting threads, so the driver signals them.
        for trigger in admin.queues.values().flatten() {
            if let Err(error) = trigger.signal() {
                tracing::warn!(%error, "a queue that waits is not told of the end");
            }
        }
        let done = shared.registers.shut_down(shared.timeout);
        let still = shared.function.set_bus_master(false);
        let disabled = shared.interrupts.disable();
        admin.lost.clear();
        done?;
        still.map_err(Error::access("turning bus mastering off"))?;
        Ok(disabled?)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            tracing::warn!(%error, "an NVMe controller was not shut down in order");
        }
    }
}

/// Returns the lower and the upper half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}
