//! Requests of an I/O queue.

use super::buffer::Buffer;

/// A request of an I/O queue, in blocks of [`super::Info::block`].
#[derive(Clone, Copy, Debug)]
pub enum Request<'b> {
    /// Reads blocks from `start` to the beginning of a buffer.
    Read {
        /// The first block.
        start: u64,
        /// The number.
        blocks: u32,
        /// The destination.
        into: &'b Buffer,
    },
    /// Writes blocks from `start` with the beginning of a buffer.
    Write {
        /// The first block.
        start: u64,
        /// The number.
        blocks: u32,
        /// The source.
        from: &'b Buffer,
    },
    /// Makes all completed writes durable.
    Flush,
    /// Writes zeroes to blocks.
    WriteZeroes {
        /// The first block.
        start: u64,
        /// The number.
        blocks: u32,
    },
}

impl Request<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Read",
            Self::Write { .. } => "Write",
            Self::Flush => "Flush",
            Self::WriteZeroes { .. } => "Write Zeroes",
        }
    }
}
