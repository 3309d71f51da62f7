//! Data buffers.

use super::Error;
use super::space::{Dma, Space};
use std::fmt;
use std::sync::Arc;

/// Memory that commands read or write. Clones share the memory.
///
/// The device may write to it while a command is outstanding, so data is copied in and out. It
/// stays mapped for the device until the last clone is dropped and no command uses it.
///
/// The PRP list is built once, so a command does not build it.
#[derive(Clone)]
pub struct Buffer {
    memory: Arc<Dma>,
    /// The offset of the data in `memory`.
    at: usize,
    len: usize,
    page: usize,
    /// The device address of the PRP list.
    list: u64,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = format_args!("{:#x}", self.address());
        f.debug_struct("Buffer").field("address", &address).field("len", &self.len).finish()
    }
}

impl Buffer {
    /// Allocates `count` buffers of `len` bytes in one mapping. The page before each buffer holds
    /// its PRP list.
    pub(crate) fn many(
        space: &Arc<Space>,
        page: u64,
        count: usize,
        len: usize,
    ) -> Result<Vec<Self>, Error> {
        let too_large = || Error::Request(format!("{count} buffers of {len} bytes are too many"));
        let page = usize::try_from(page).map_err(|_| too_large())?;
        let each = len.checked_next_multiple_of(page).and_then(|len| len.checked_add(page));
        let each = each.ok_or_else(too_large)?;
        let all = each.checked_mul(count).ok_or_else(too_large)?;
        if all == 0 {
            return Ok(Vec::new());
        }
        let memory = space.allocate(all as u64)?;
        let buffer = |number: usize| {
            let place = number * each;
            let list = memory.address() + place as u64;
            let at = place + page;
            let buffer = Self { memory: Arc::clone(&memory), at, len, page, list };
            buffer.write_list(place).ok_or_else(too_large)?;
            Ok(buffer)
        };
        (0..count).map(buffer).collect()
    }

    /// The list has every page but the first, which the command contains (PRP1).
    fn write_list(&self, place: usize) -> Option<()> {
        let pages = self.len.div_ceil(self.page);
        (1..pages).try_for_each(|number| {
            let address = self.address() + (number * self.page) as u64;
            self.memory.write(place + 8 * (number - 1), &address.to_le_bytes())
        })
    }

    fn address(&self) -> u64 {
        self.memory.address() + self.at as u64
    }

    /// Returns PRP1 and PRP2 for the first `len` bytes.
    pub(crate) fn pointers(&self, len: usize) -> (u64, u64) {
        let first = self.address();
        match len.div_ceil(self.page) {
            0 | 1 => (first, 0),
            2 => (first, first + self.page as u64),
            _ => (first, self.list),
        }
    }

    /// Returns true if the buffer is mapped for this device.
    pub(crate) fn is_of(&self, space: &Arc<Space>) -> bool {
        self.memory.is_of(space)
    }

    pub(crate) fn memory(&self) -> Arc<Dma> {
        Arc::clone(&self.memory)
    }

    /// Returns the size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if the size is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn place(&self, offset: usize, len: usize) -> Result<usize, Error> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len);
        let inside = end.and_then(|_| self.at.checked_add(offset));
        inside.ok_or_else(|| {
            Error::Request(format!("{len} bytes at {offset} are beyond a buffer of {}", self.len))
        })
    }

    /// Copies `data` into the buffer.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] when that would be beyond its end.
    pub fn write(&self, offset: usize, data: &[u8]) -> Result<(), Error> {
        let place = self.place(offset, data.len())?;
        self.memory.write(place, data).ok_or(Error::Closed)
    }

    /// Copies from the buffer to `data`.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] when that would be beyond its end.
    pub fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), Error> {
        let place = self.place(offset, data.len())?;
        self.memory.read(place, data).ok_or(Error::Closed)
    }
}
