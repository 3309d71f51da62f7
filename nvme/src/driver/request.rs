//! What queues are asked for.

use super::buffer::Buffer;

/// What an I/O queue is asked for. Blocks are those of [`super::Info::block`].
///
/// ```
/// use vfio_irq_nvme::driver::Request;
/// # let (driver, counts, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/driver.rs"));
/// let (mut queue, buffer) = (driver.create_queue(4)?, driver.buffer(4096)?);
/// buffer.write(0, &[7; 4096])?;
/// queue.run(Request::Write { start: 100, blocks: 8, from: &buffer })?;
/// // Of the eight blocks, the first two are to be zeroes again.
/// queue.run(Request::WriteZeroes { start: 100, blocks: 2 })?;
/// queue.run(Request::Read { start: 101, blocks: 2, into: &buffer })?;
/// let mut bytes = [1; 1024];
/// buffer.read(0, &mut bytes)?;
/// assert_eq!((bytes[511], bytes[512]), (0, 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Request<'b> {
    /// Reads blocks from `start` on into the beginning of a buffer.
    Read {
        /// The first block.
        start: u64,
        /// How many.
        blocks: u32,
        /// Where to.
        into: &'b Buffer,
    },
    /// Writes blocks from `start` on from the beginning of a buffer.
    Write {
        /// The first block.
        start: u64,
        /// How many.
        blocks: u32,
        /// Where from.
        from: &'b Buffer,
    },
    /// Brings everything that was written to where it survives a loss of power.
    Flush,
    /// Makes blocks read as zeroes.
    WriteZeroes {
        /// The first block.
        start: u64,
        /// How many.
        blocks: u32,
    },
}

impl Request<'_> {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Read",
            Self::Write { .. } => "Write",
            Self::Flush => "Flush",
            Self::WriteZeroes { .. } => "Write Zeroes",
        }
    }
}
