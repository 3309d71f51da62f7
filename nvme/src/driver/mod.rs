//! A driver for NVMe controllers in user space, each of whose queues has an interrupt of its own that
//! comes and goes with the queue.
//!
//! Many commands at one time, and a wait for any of them:
//!
//! # What holds
//!
//! A controller is not trusted: what it says is checked, and what makes no sense is an [`Error`]. It
//! reaches the memory of its queues and of [`Buffer`]s, and no other.
//!
//! A queue belongs to one thread, and several queues to as many. Creating and deleting queues waits
//! for a lock, using them does not.
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
mod start;
#[cfg(feature = "vfio-ioctls")]
mod sys;

pub use crate::status::Status;
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

use admin::{Admin, NotCreated};
use function::AnyFunction;
use interrupts::Interrupts;
use memory::Space;
use pair::Pair;
use registers::Registers;
use ring::Ring;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vfio_irq::Trigger;

/// How a driver behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How vectors are added.
    pub method: Method,
    /// I/O queues at most.
    pub queues: u16,
    /// How long a command may take for which somebody waits: admin commands, and the calls of
    /// [`Queue`] that wait.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { method: Method::default(), queues: u16::MAX, timeout: Duration::from_secs(10) }
    }
}

/// What a controller and its first namespace say of themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Info {
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Firmware revision.
    pub firmware: String,
    /// Blocks of the namespace.
    pub blocks: u64,
    /// Bytes of a block.
    pub block: u64,
    /// Bytes that one command moves at most.
    pub transfer: u64,
    /// Whether blocks can be made zeroes without sending them.
    pub write_zeroes: bool,
    /// I/O queues at most.
    pub queues: u16,
    /// Entries of an I/O queue at most; one of them stays empty.
    pub entries: u16,
}

/// What a queue has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Completions that were taken.
    pub completions: u64,
    /// How often the eventfd was signalled. One signal may tell of several completions, and of none.
    pub signals: u64,
    /// Completions that were taken by a look without a signal.
    pub polled: u64,
    /// Looks that found completions which had been seen a second before, and no signal since: each a
    /// lost interrupt.
    pub stalls: u64,
}

/// A controller that is enabled. Dropping it shuts the controller down, and queues that are left
/// end with [`Error::Closed`]: whoever waits for one of them is woken.
///
/// ```no_run
/// use vfio_irq_nvme::driver::{Driver, Options, Socket};
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

/// What a driver and its queues share.
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
        // What is half done after a panic the controller says itself: its answers are checked.
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Whether commands can still end.
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
    /// Resets and enables a controller (CC.EN), and asks what it is (Identify).
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when it cannot be used; [`Error::NotReady`], [`Error::Fatal`],
    /// [`Error::Gone`] when it does not start; [`Error::Interrupt`] when it gets no vector.
    pub fn open(function: impl Function + 'static, options: Options) -> Result<Self, Error> {
        start::start(Arc::new(function), &options).map(|shared| Self(Arc::new(shared)))
    }

    /// What the controller says of itself.
    pub fn info(&self) -> &Info {
        &self.0.info
    }

    /// What the admin queue has counted.
    pub fn admin_stats(&self) -> Stats {
        self.0.admin().pair.stats
    }

    /// Memory for `len` bytes of data.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`]; [`Error::Request`] when it is larger than [`Info::transfer`].
    pub fn buffer(&self, len: usize) -> Result<Buffer, Error> {
        let mut buffers = self.buffers(1, len)?;
        buffers.pop().ok_or_else(|| Error::Request("a buffer needs a length".into()))
    }

    /// Several buffers in one piece of memory, which is less work for the system.
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

    /// Creates an I/O queue for so many commands at one time (or as many as the controller can), and
    /// attaches a vector for it. Other queues may be at work.
    ///
    /// # Errors
    ///
    /// [`Error::NoQueue`], [`Error::Interrupt`], [`Error::Memory`]; [`Error::Status`] with what the
    /// controller said. Nothing is left behind then.
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

    /// Shuts the controller down (CC.SHN) and says if that fails; dropping only logs.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] and others when the controller does not stop in order. It cannot reach
    /// for memory any more all the same, unless it does not answer at all.
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
        // No completion will come that could wake them.
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

/// Lower and upper half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}
