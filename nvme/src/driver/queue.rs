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

/// Blocks of one command at most.
const MOST_BLOCKS: u32 = 1 << 16;

/// An I/O queue pair with a vector of its own.
///
/// It belongs to one thread at a time. Dropping it deletes it and detaches its vector; other queues do
/// not notice.
///
/// # Without blocking
///
/// [`Queue::submit`] hands a command over, [`Queue::drain`] takes completions. In between, wait until
/// the queue's descriptor ([`AsFd`]) is readable: it is an eventfd, so `poll`, `epoll`, io_uring and
/// every runtime can. It may be readable without a completion, so look and go on.
///
/// A future needs a runtime that wakes it, and there is more than one, so this has none of its own.
/// With tokio:
///
/// ```no_run
/// use tokio::io::unix::AsyncFd;
/// use vfio_irq_nvme::driver::{Error, Queue, Request};
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
    /// Readable when there may be completions. Leave it to [`Queue::drain`] to read it.
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

    /// Its number, which is also its vector's.
    pub fn id(&self) -> u16 {
        self.pair.ring.id()
    }

    /// How many commands can be under way.
    pub fn depth(&self) -> usize {
        self.pair.ring.depth()
    }

    /// How many commands are under way.
    pub fn open(&self) -> usize {
        self.pair.ring.open()
    }

    /// The eventfd that its vector signals.
    pub fn trigger(&self) -> &Trigger {
        &self.pair.trigger
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.pair.stats
    }

    /// Hands a command to the controller and returns at once; `token` comes back with its
    /// [`Completion`].
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when as many as it holds are under way; [`Error::Request`] for what the
    /// buffer or the controller is too small for; [`Error::Access`] when the controller is gone.
    pub fn submit(&mut self, request: Request<'_>, token: u64) -> Result<(), Error> {
        self.shared.check_open()?;
        let (words, data) = self.command(request)?;
        self.pair.ring.submit(words, token, data)
    }

    /// Takes all completions that are there, after the descriptor was readable or at any time; how
    /// many.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] when the controller wrote what makes no sense, [`Error::Access`] when it is
    /// gone, [`Error::Dead`] after either. Completions before that were handed out.
    /// [`Error::Closed`] when there are none and none will come: the driver was closed.
    pub fn drain(&mut self, each: impl FnMut(Completion)) -> Result<usize, Error> {
        let count = self.pair.drain(each)?;
        // Asked last: the signal that tells of the end may be one of those just taken.
        match (self.shared.check_open(), count) {
            (Ok(()), _) => Ok(count),
            (Err(closed), 0) => Err(closed),
            // The next call says so.
            (Err(_), _) => self.pair.trigger.signal().map(|()| count).map_err(Error::from),
        }
    }

    /// Whether a completion waits that no signal told of, and for how long it was seen to: from the
    /// first call on that finds it. More than a second is a lost interrupt, and the next
    /// [`Queue::drain`] counts it as [`Stats::stalls`].
    pub fn untold(&mut self) -> Option<Duration> {
        self.pair.untold()
    }

    /// Whether the controller is still there and can go on: for those who wait longer than they like.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], [`Error::Access`], [`Error::Fatal`], [`Error::Closed`].
    pub fn check(&self) -> Result<(), Error> {
        self.shared.check()
    }

    /// Reads as many blocks as the buffer holds from block `start` on, and waits for them (Read, opcode
    /// 0x02).
    ///
    /// # Errors
    ///
    /// [`Error::Status`] with what the controller said; [`Error::Busy`] while other commands are
    /// under way; [`Error::Timeout`] after [`super::Options::timeout`]; as [`Queue::submit`] and
    /// [`Queue::drain`].
    pub fn read(&mut self, start: u64, into: &Buffer) -> Result<(), Error> {
        let blocks = self.whole(into)?;
        self.run(Request::Read { start, blocks, into })
    }

    /// Writes the whole buffer from block `start` on, and waits for it (Write, opcode 0x01).
    ///
    /// # Errors
    ///
    /// As [`Queue::read`].
    pub fn write(&mut self, start: u64, from: &Buffer) -> Result<(), Error> {
        let blocks = self.whole(from)?;
        self.run(Request::Write { start, blocks, from })
    }

    /// Brings everything that was written to where it survives a loss of power, and waits for it.
    ///
    /// # Errors
    ///
    /// As [`Queue::read`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.run(Request::Flush)
    }

    /// Makes blocks read as zeroes, and waits for it (Write Zeroes, opcode 0x08).
    ///
    /// # Errors
    ///
    /// As [`Queue::read`]; [`Error::Request`] when the controller has no such command.
    pub fn write_zeroes(&mut self, start: u64, blocks: u32) -> Result<(), Error> {
        self.run(Request::WriteZeroes { start, blocks })
    }

    /// Carries out one command while no other is under way.
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

    /// Deletes it and says if that fails; dropping only logs.
    ///
    /// # Errors
    ///
    /// When the controller does not delete it: its number is not used again then.
    pub fn delete(mut self) -> Result<(), Error> {
        self.let_go()
    }

    fn let_go(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.deleted, true) {
            return Ok(());
        }
        let mut admin = self.shared.admin();
        let deleted = match admin.closed {
            // A controller that was shut down has no queues.
            true => Ok(()),
            false => admin.delete(&self.shared.registers, self.id()),
        };
        // Under the lock, so that the number's next user finds its vector free.
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

/// The command with its blocks. Whether they exist is the controller's to say.
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
