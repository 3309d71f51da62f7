//! I/O queues.

use super::admin::with_pointers;
use super::buffer::Buffer;
use super::memory::Dma;
use super::pair::Pair;
use super::request::Request;
use super::ring::{Completion, Words};
use super::{Error, Shared, Stats, halves};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use vfio_irq::Trigger;

/// I/O commands by their opcode.
mod opcode {
    pub(super) const FLUSH: u32 = 0x00;
    pub(super) const WRITE: u32 = 0x01;
    pub(super) const READ: u32 = 0x02;
    pub(super) const ZEROES: u32 = 0x08;
}

/// The limit of blocks per command (NLB is 16 bits).
const MOST_BLOCKS: u32 = 1 << 16;

/// An I/O queue pair with its own vector.
///
/// One thread uses it at a time. Dropping it deletes the queue pair and detaches its vector. Other
/// queues are not affected.
///
/// # Without blocking
///
/// [`Queue::submit`] submits a command, and [`Queue::drain`] takes completions. Between them, wait
/// until the descriptor of the queue ([`AsFd`]) is readable. It is an eventfd, so `poll`, `epoll`,
/// io_uring and every runtime can wait for it. It may be readable without a completion.
///
/// This crate depends on no runtime, so it has no futures. With tokio:
///
/// ```
/// use tokio::io::unix::AsyncFd;
/// use vfio_irq_nvme::driver::{Buffer, Queue, Request};
///
/// async fn read(queue: &mut AsyncFd<Queue>, start: u64, into: &Buffer) -> std::io::Result<()> {
///     let request = Request::Read { start, blocks: 1, into };
///     queue.get_mut().submit(request, 0).map_err(std::io::Error::other)?;
///     let mut end = None;
///     while end.is_none() {
///         queue.readable_mut().await?.clear_ready();
///         let drained = queue.get_mut().drain(|done| end = Some(done.result));
///         drained.map_err(std::io::Error::other)?;
///     }
///     Ok(())
/// }
/// # use vfio_irq_nvme::driver::{Driver, Options, Socket};
/// # let (path, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
/// # let driver = Driver::open(Socket::connect(&path)?, Options::default())?;
/// # let buffer = driver.buffer(512)?;
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
/// # runtime.block_on(async {
/// #     let mut queue = AsyncFd::new(driver.create_queue(1)?)?;
/// #     for start in 0..1000 {
/// #         read(&mut queue, start, &buffer).await?;
/// #     }
/// #     assert_eq!(queue.get_ref().stats().completions, 1000);
/// #     Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Queue {
    shared: Arc<Shared>,
    pair: Pair,
    deleted: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("id", &self.id()).field("stats", &self.pair.stats).finish()
    }
}

impl AsFd for Queue {
    /// Returns the eventfd of the vector. Do not read it; [`Queue::drain`] does.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pair.trigger.as_fd()
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Queue {
    pub(super) fn new(shared: Arc<Shared>, pair: Pair) -> Self {
        Self { shared, pair, deleted: false }
    }

    /// Returns the queue ID, which is also the number of the vector.
    ///
    /// ```
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let (one, two) = (driver.create_queue(1)?, driver.create_queue(1)?);
    /// assert_eq!((one.id(), two.id()), (1, 2));
    /// assert!(counts.interrupts().is_attached(two.id().into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn id(&self) -> u16 {
        self.pair.ring.id()
    }

    /// Returns how many commands can be outstanding.
    ///
    /// ```
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// assert_eq!(driver.create_queue(16)?.depth(), 16);
    /// // More than the controller can be asked for: the most that it can.
    /// let most = usize::from(driver.info().entries) - 1;
    /// assert_eq!(driver.create_queue(u16::MAX)?.depth(), most);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn depth(&self) -> usize {
        self.pair.ring.depth()
    }

    /// Returns how many commands are outstanding.
    ///
    /// ```
    /// use vfio_irq_nvme::driver::Request;
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let mut queue = driver.create_queue(4)?;
    /// queue.submit(Request::Flush, 1)?;
    /// queue.submit(Request::Flush, 2)?;
    /// // Until their completions are taken, whatever the controller has done.
    /// assert_eq!(queue.open(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(&self) -> usize {
        self.pair.ring.open()
    }

    /// Returns the eventfd of the vector.
    ///
    /// ```
    /// use std::os::fd::{AsFd, AsRawFd};
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let queue = driver.create_queue(4)?;
    /// // The same descriptor, for those who keep eventfds of their own.
    /// assert_eq!(queue.trigger().as_fd().as_raw_fd(), queue.as_raw_fd());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trigger(&self) -> &Trigger {
        &self.pair.trigger
    }

    /// Returns the counts of the queue.
    ///
    /// ```
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let (mut queue, idle) = (driver.create_queue(1)?, driver.create_queue(1)?);
    /// queue.flush()?;
    /// assert_eq!(queue.stats().completions, 1);
    /// // Each has a vector of its own: what one is told, the other is not.
    /// assert_eq!(idle.stats().signals, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.pair.stats
    }

    /// Submits a command, and returns without waiting. The [`Completion`] carries `token`.
    ///
    /// # Errors
    ///
    /// - [`Error::Full`] if the queue is full
    /// - [`Error::Request`] if the request exceeds the buffer or a limit of the controller
    /// - [`Error::Access`] if the controller does not respond
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Error, Request};
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let (mut queue, small) = (driver.create_queue(2)?, driver.buffer(512)?);
    /// let larger = Request::Read { start: 0, blocks: 2, into: &small };
    /// assert!(matches!(queue.submit(larger, 0), Err(Error::Request(_))));
    /// queue.submit(Request::Flush, 1)?;
    /// queue.submit(Request::Flush, 2)?;
    /// assert!(matches!(queue.submit(Request::Flush, 3), Err(Error::Full { depth: 2, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit(&mut self, request: Request<'_>, token: u64) -> Result<(), Error> {
        self.shared.check_open()?;
        let (words, data) = self.command(request)?;
        self.pair.ring.submit(words, token, data)
    }

    /// Takes all available completions. Returns how many.
    ///
    /// # Errors
    ///
    /// - [`Error::Broken`] if the controller wrote an invalid completion; valid ones before it were
    ///   passed to `each`
    /// - [`Error::Access`] if the controller does not respond
    /// - [`Error::Dead`] after either error
    /// - [`Error::Closed`] if the driver was closed and no completion was left
    ///
    /// ```
    /// use vfio_irq_nvme::driver::Request;
    /// # use rustix::event::{PollFd, PollFlags, poll};
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let mut queue = driver.create_queue(4)?;
    /// queue.submit(Request::Flush, 77)?;
    /// let mut tokens = Vec::new();
    /// while queue.open() > 0 {
    ///     poll(&mut [PollFd::new(&queue, PollFlags::IN)], None)?;
    ///     queue.drain(|completion| tokens.push(completion.token))?;
    /// }
    /// assert_eq!(tokens, [77]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain(&mut self, each: impl FnMut(Completion)) -> Result<usize, Error> {
        let count = self.pair.drain(each)?;
        // The driver is checked last, because one of the signals just taken may announce the close.
        match (self.shared.check_open(), count) {
            (Ok(()), _) => Ok(count),
            (Err(closed), 0) => Err(closed),
            // The signal makes the next call return the error.
            (Err(_), _) => self.pair.trigger.signal().map(|()| count).map_err(Error::from),
        }
    }

    /// Looks for a completion without a signal. Returns the time since the first call that saw it.
    /// More than a second means a lost interrupt; the next [`Queue::drain`] counts it in
    /// [`Stats::stalls`].
    ///
    /// ```
    /// use vfio_irq_nvme::driver::Request;
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let mut queue = driver.create_queue(4)?;
    /// assert_eq!(queue.untold(), None, "nothing was asked for");
    /// // Whoever polls with a time limit asks when the time is over.
    /// queue.submit(Request::Flush, 0)?;
    /// if let Some(since) = queue.untold() {
    ///     println!("its interrupt is late by {since:?}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn untold(&mut self) -> Option<Duration> {
        self.pair.untold()
    }

    /// Checks that the controller still responds and works. Call this if a command takes too long.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Gone`], [`Error::Access`], [`Error::Fatal`] or [`Error::Closed`].
    ///
    /// ```
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let queue = driver.create_queue(1)?;
    /// assert!(queue.check().is_ok());
    /// driver.close()?;
    /// assert_eq!(queue.check().unwrap_err().to_string(), "the controller was shut down by its driver");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check(&self) -> Result<(), Error> {
        self.shared.check()
    }

    /// Reads blocks from `start` to fill the buffer, and waits for completion (Read, opcode 0x02).
    ///
    /// # Errors
    ///
    /// - [`Error::Status`] with the status of the controller
    /// - [`Error::Busy`] if other commands are outstanding
    /// - [`Error::Timeout`] after [`super::Options::timeout`]
    /// - the errors of [`Queue::submit`] and [`Queue::drain`]
    ///
    /// ```
    /// # use vfio_irq_nvme::driver::Error;
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let mut queue = driver.create_queue(1)?;
    /// queue.read(0, &driver.buffer(8 * 512)?)?; // Blocks 0 to 7.
    /// let uneven = queue.read(0, &driver.buffer(700)?);
    /// assert!(matches!(uneven, Err(Error::Request(_))), "no number of blocks");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&mut self, start: u64, into: &Buffer) -> Result<(), Error> {
        let blocks = self.whole(into)?;
        self.run(Request::Read { start, blocks, into })
    }

    /// Writes the whole buffer to the blocks from `start`, and waits for completion (Write, opcode
    /// 0x01).
    ///
    /// # Errors
    ///
    /// As [`Queue::read`].
    ///
    /// ```
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let (mut queue, buffer) = (driver.create_queue(1)?, driver.buffer(512)?);
    /// buffer.write(0, b"kept")?;
    /// queue.write(7, &buffer)?;
    /// // Another queue of the same controller sees it.
    /// let other = driver.buffer(512)?;
    /// driver.create_queue(1)?.read(7, &other)?;
    /// let mut there = [0; 4];
    /// other.read(0, &mut there)?;
    /// assert_eq!(&there, b"kept");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&mut self, start: u64, from: &Buffer) -> Result<(), Error> {
        let blocks = self.whole(from)?;
        self.run(Request::Write { start, blocks, from })
    }

    /// Makes all completed writes durable, and waits for completion (Flush, opcode 0x00).
    ///
    /// # Errors
    ///
    /// As [`Queue::read`].
    ///
    /// ```
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let (mut queue, buffer) = (driver.create_queue(1)?, driver.buffer(512)?);
    /// queue.write(0, &buffer)?; // May be in a cache,
    /// queue.flush()?; // and is not only there now.
    /// assert_eq!(counts.totals().syncs, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&mut self) -> Result<(), Error> {
        self.run(Request::Flush)
    }

    /// Writes zeroes to blocks, and waits for completion (Write Zeroes, opcode 0x08).
    ///
    /// # Errors
    ///
    /// As [`Queue::read`]; [`Error::Request`] if the controller does not support Write Zeroes.
    ///
    /// ```
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let (mut queue, buffer) = (driver.create_queue(1)?, driver.buffer(512)?);
    /// buffer.write(0, &[1; 512])?;
    /// queue.write(9, &buffer)?;
    /// // A MiB in one command, without a byte of data.
    /// queue.write_zeroes(0, 2048)?;
    /// queue.read(9, &buffer)?;
    /// let mut bytes = [1; 512];
    /// buffer.read(0, &mut bytes)?;
    /// assert_eq!(bytes, [0; 512]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_zeroes(&mut self, start: u64, blocks: u32) -> Result<(), Error> {
        self.run(Request::WriteZeroes { start, blocks })
    }

    /// Submits one command while no other is outstanding, and waits for completion.
    ///
    /// # Errors
    ///
    /// As [`Queue::read`].
    ///
    /// ```
    /// use vfio_irq_nvme::driver::{Error, Request};
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let mut queue = driver.create_queue(2)?;
    /// queue.run(Request::Flush)?;
    /// queue.submit(Request::Flush, 1)?;
    /// // Not while others are under way: their completions would have nobody to go to.
    /// assert!(matches!(queue.run(Request::Flush), Err(Error::Busy { open: 1, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(&mut self, request: Request<'_>) -> Result<(), Error> {
        self.shared.check_open()?;
        let work = self.command(request)?;
        let Self { shared, pair, .. } = self;
        pair.run(request.name(), work, shared.timeout, || shared.check()).map(drop)
    }

    /// Deletes the queue pair. Dropping does the same, but only logs errors.
    ///
    /// # Errors
    ///
    /// Returns an error if the controller does not delete it. The driver then never reuses the
    /// queue ID.
    ///
    /// ```
    /// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
    /// let queue = driver.create_queue(1)?;
    /// assert!(counts.interrupts().is_attached(1));
    /// queue.delete()?;
    /// assert!(!counts.interrupts().is_attached(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete(mut self) -> Result<(), Error> {
        self.let_go()
    }

    fn let_go(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.deleted, true) {
            return Ok(());
        }
        let mut admin = self.shared.admin();
        let deleted = match admin.closed {
            // After shutdown the controller has no queues.
            true => Ok(()),
            false => admin.delete(&self.shared.registers, self.id()),
        };
        // The vector is detached under the lock, so that the next user of the queue ID finds it
        // free.
        self.pair.vector = None;
        match &deleted {
            Ok(()) => _ = admin.queues.remove(&self.id()),
            Err(_) => {
                admin.queues.insert(self.id(), None);
                admin.lost.extend(self.pair.ring.held());
            }
        }
        deleted
    }

    fn whole(&self, buffer: &Buffer) -> Result<u32, Error> {
        let (len, block) = (buffer.len() as u64, self.shared.info.block);
        let blocks = u32::try_from(len / block).ok().filter(|_| len.is_multiple_of(block));
        blocks.ok_or_else(|| {
            Error::Request(format!("a buffer of {len} bytes is no number of blocks of {block}"))
        })
    }

    fn command(&self, request: Request<'_>) -> Result<(Words, Option<Arc<Dma>>), Error> {
        match request {
            Request::Flush => Ok((with_pointers(opcode::FLUSH, 1, 0, 0), None)),
            Request::Read { start, blocks, into } => {
                self.transfer(opcode::READ, start, blocks, into)
            }
            Request::Write { start, blocks, from } => {
                self.transfer(opcode::WRITE, start, blocks, from)
            }
            Request::WriteZeroes { start, blocks } => {
                if !self.shared.info.write_zeroes {
                    return Err(Error::Request("the controller has no Write Zeroes".into()));
                }
                let words = with_pointers(opcode::ZEROES, 1, 0, 0);
                Ok((on_blocks(words, start, blocks)?, None))
            }
        }
    }

    fn transfer(
        &self,
        opcode: u32,
        start: u64,
        blocks: u32,
        buffer: &Buffer,
    ) -> Result<(Words, Option<Arc<Dma>>), Error> {
        if !buffer.is_of(&self.shared.space) {
            return Err(Error::Request("the buffer is another controller's".into()));
        }
        let info = &self.shared.info;
        let len = u64::from(blocks) * info.block;
        if len > info.transfer {
            let most = info.transfer / info.block;
            return Err(Error::Request(format!(
                "a command moves {most} blocks at most, not {blocks}"
            )));
        }
        let len =
            usize::try_from(len).ok().filter(|len| *len <= buffer.len()).ok_or_else(|| {
                Error::Request(format!("{len} bytes do not fit into a buffer of {}", buffer.len()))
            })?;
        let (first, second) = buffer.pointers(len);
        let words = with_pointers(opcode, 1, first, second);
        Ok((on_blocks(words, start, blocks)?, Some(buffer.memory())))
    }
}

/// Adds the block range to a command. The controller checks that the blocks exist.
fn on_blocks(mut words: Words, start: u64, blocks: u32) -> Result<Words, Error> {
    if !(1..=MOST_BLOCKS).contains(&blocks) {
        return Err(Error::Request(format!(
            "a command is about 1 to {MOST_BLOCKS} blocks, not {blocks}"
        )));
    }
    (words[10], words[11]) = halves(start);
    words[12] = blocks - 1;
    Ok(words)
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Err(error) = self.let_go() {
            tracing::warn!(%error, queue = self.id(), "a queue stays with the controller");
        }
    }
}
