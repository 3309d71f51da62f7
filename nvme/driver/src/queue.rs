//! I/O queues.

use super::admin::with_pointers;
use super::buffer::Buffer;
use super::pair::Pair;
use super::request::Request;
use super::ring::{Completion, Words};
use super::space::Dma;
use super::{Error, Shared, Stats, halves};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use vfio_irq::Trigger;
use vfio_irq_nvme_spec::opcode::io as opcode;

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
/// ```no_run
/// use tokio::io::unix::AsyncFd;
/// use vfio_irq_nvme_driver::{Error, Queue, Request};
///
/// /// Flushes, and waits without blocking the runtime.
/// async fn flush(queue: &mut AsyncFd<Queue>) -> Result<(), Error> {
///     queue.get_mut().submit(Request::Flush, 1)?;
///     loop {
///         let mut ready = queue.readable_mut().await.expect("an eventfd");
///         ready.clear_ready();
///         if ready.get_inner_mut().drain(|completion| println!("{completion:?}"))? > 0 {
///             return Ok(());
///         }
///     }
/// }
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
    pub(crate) fn new(shared: Arc<Shared>, pair: Pair) -> Self {
        Self { shared, pair, deleted: false }
    }

    /// Returns the queue ID, which is also the number of the vector.
    pub fn id(&self) -> u16 {
        self.pair.ring.id()
    }

    /// Returns how many commands can be outstanding.
    pub fn depth(&self) -> usize {
        self.pair.ring.depth()
    }

    /// Returns how many commands are outstanding.
    pub fn open(&self) -> usize {
        self.pair.ring.open()
    }

    /// Returns the eventfd of the vector.
    pub fn trigger(&self) -> &Trigger {
        &self.pair.trigger
    }

    /// Returns the counts of the queue.
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
    pub fn untold(&mut self) -> Option<Duration> {
        self.pair.untold()
    }

    /// Checks that the controller still responds and works. Call this if a command takes too long.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Gone`], [`Error::Access`], [`Error::Fatal`] or [`Error::Closed`].
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
    pub fn write(&mut self, start: u64, from: &Buffer) -> Result<(), Error> {
        let blocks = self.whole(from)?;
        self.run(Request::Write { start, blocks, from })
    }

    /// Makes all completed writes durable, and waits for completion (Flush, opcode 0x00).
    ///
    /// # Errors
    ///
    /// As [`Queue::read`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.run(Request::Flush)
    }

    /// Writes zeroes to blocks, and waits for completion (Write Zeroes, opcode 0x08).
    ///
    /// # Errors
    ///
    /// As [`Queue::read`]; [`Error::Request`] if the controller does not support Write Zeroes.
    pub fn write_zeroes(&mut self, start: u64, blocks: u32) -> Result<(), Error> {
        self.run(Request::WriteZeroes { start, blocks })
    }

    /// Submits one command while no other is outstanding, and waits for completion.
    ///
    /// # Errors
    ///
    /// As [`Queue::read`].
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
                let words = with_pointers(opcode::WRITE_ZEROES, 1, 0, 0);
                Ok((on_blocks(words, start, blocks)?, None))
            }
        }
    }

    fn transfer(
        &self,
        opcode: u8,
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
