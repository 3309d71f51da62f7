//! What queues are asked for.

use super::buffer::Buffer;

/// What an I/O queue is asked for. Blocks are those of [`super::Info::block`].
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
