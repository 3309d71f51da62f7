//! Decodes a stream of bytes and descriptors into messages with their descriptors.

use super::MAX_FDS;
use super::packet::{Header, Packet};
use crate::errno;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use vfio_irq_engine::Errno;

/// Collects the bytes and descriptors of a socket.
///
/// `recvmsg(2)` returns no bytes beyond those that the descriptors were sent with. So the
/// descriptors belong to the last message that begins in the received bytes, or to the incomplete
/// one.
///
/// ```
/// use vfio_irq_user::wire::{Command, Decoder, Header};
///
/// let mut decoder = Decoder::new(1 << 20);
/// let message = Header::command(1, Command::DeviceReset, 0).to_bytes();
/// // A socket may deliver it in any pieces.
/// for piece in message.chunks(5) {
///     decoder.room()[..piece.len()].copy_from_slice(piece);
///     decoder.filled(piece.len(), [], false)?;
/// }
/// let frame = decoder.next(&mut Vec::new())?.expect("all of it came");
/// assert_eq!(frame.packet.header().command, Command::DeviceReset.raw());
/// # Ok::<(), vfio_irq_user::Errno>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// The start of the first message that was not taken, and the end of the bytes.
    start: usize,
    end: usize,
    /// The position of the buffer in the stream.
    before: u64,
    /// Descriptors, each with the stream position of its message.
    fds: VecDeque<(u64, OwnedFd)>,
    /// The stream positions of messages that lost descriptors (MSG_CTRUNC).
    truncated: VecDeque<u64>,
    longest: usize,
}

/// A whole message.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Its bytes.
    pub packet: Packet<'a>,
    /// Descriptors were lost (MSG_CTRUNC), so the message must be refused.
    pub truncated: bool,
}

impl Decoder {
    const FIRST: usize = 4 << 10;

    /// Creates an empty decoder, which refuses messages longer than `longest` bytes.
    ///
    /// ```
    /// use vfio_irq_user::{errno, wire::{Command, Decoder, Header}};
    ///
    /// let mut decoder = Decoder::new(64);
    /// // A promise of 16 + 100 bytes is refused before they come, and takes no memory.
    /// let header = Header::command(1, Command::RegionWrite, 100).to_bytes();
    /// decoder.room()[..16].copy_from_slice(&header);
    /// decoder.filled(16, [], false)?;
    /// assert_eq!(decoder.next(&mut Vec::new()).unwrap_err(), errno::EMSGSIZE);
    /// # Ok::<(), vfio_irq_user::Errno>(())
    /// ```
    pub fn new(longest: usize) -> Self {
        Self {
            buffer: vec![0; Self::FIRST.min(longest.max(Header::LEN))],
            start: 0,
            end: 0,
            before: 0,
            fds: VecDeque::new(),
            truncated: VecDeque::new(),
            longest,
        }
    }

    /// Returns true if a message is incomplete.
    pub fn is_incomplete(&self) -> bool {
        self.start != self.end
    }

    /// Returns the stream position of the first message that was not taken.
    pub(crate) fn place(&self) -> u64 {
        self.before.wrapping_add(self.start as u64)
    }

    /// Returns the buffer for the next receive. It is not empty after [`Decoder::next`] has
    /// returned `None`.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.before = self.before.wrapping_add(self.start as u64);
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.before = self.before.wrapping_add(self.start as u64);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            // The buffer grows with received bytes, not with the size in an unchecked header.
            let longer = self.buffer.len().saturating_mul(2).min(self.longest);
            self.buffer.resize(longer.max(self.buffer.len()), 0);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Takes `bytes` bytes that were received into [`Decoder::room`], and their descriptors.
    /// `truncated` is true if descriptors were lost (MSG_CTRUNC).
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if a message has too many descriptors.
    ///
    /// ```
    /// # use vfio_irq_user::wire::{Command, Decoder, Header};
    /// let fd = std::fs::File::open("/dev/null")?.into();
    /// let two = [Header::command(1, Command::DeviceReset, 0).to_bytes(); 2].concat();
    /// let (mut decoder, mut fds) = (Decoder::new(4096), Vec::new());
    /// decoder.room()[..32].copy_from_slice(&two);
    /// // A read ends with the message that its descriptors were sent with.
    /// decoder.filled(32, [fd], false).map_err(|errno| format!("{errno}"))?;
    /// for expected in [0, 1] {
    ///     decoder.next(&mut fds).map_err(|errno| format!("{errno}"))?;
    ///     assert_eq!(fds.len(), expected);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn filled(
        &mut self,
        bytes: usize,
        fds: impl IntoIterator<Item = OwnedFd>,
        truncated: bool,
    ) -> Result<(), Errno> {
        let from = self.end;
        self.end = self.end.saturating_add(bytes).min(self.buffer.len());
        let mut fds = fds.into_iter().peekable();
        if fds.peek().is_none() && !truncated {
            return Ok(());
        }
        let owner = self.last_start(from);
        if truncated && self.truncated.back() != Some(&owner) {
            self.truncated.push_back(owner);
        }
        self.fds.extend(fds.map(|fd| (owner, fd)));
        let owned = self.fds.iter().filter(|(of, _)| *of == owner).count();
        if owned > MAX_FDS { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Returns the stream position of the last message that begins at or after `from`, or else of
    /// the incomplete one.
    fn last_start(&self, from: usize) -> u64 {
        let mut last = self.start;
        while let Some(head) = self.buffer.get(last..self.end).and_then(<[u8]>::first_chunk) {
            let size = Header::from_bytes(head).size as usize;
            match last.checked_add(size) {
                Some(next) if size >= Header::LEN && next < self.end => last = next,
                _ => break,
            }
        }
        debug_assert!(last >= from || last == self.start || from <= self.end);
        self.before.wrapping_add(last as u64)
    }

    /// Takes the next message, and moves its descriptors to `fds`, which is cleared first. Returns
    /// `None` if no message is whole.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if the size is below that of a header, and `EMSGSIZE` if it exceeds the
    /// limit. The position in the stream is then lost.
    pub fn next(&mut self, fds: &mut Vec<OwnedFd>) -> Result<Option<Frame<'_>>, Errno> {
        fds.clear();
        let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
        if let Some(head) = bytes.first_chunk() {
            let size = Header::from_bytes(head).size as usize;
            if size > self.longest {
                return Err(errno::EMSGSIZE);
            }
        }
        let Some(packet) = Packet::split(bytes)? else { return Ok(None) };
        let at = self.place();
        let own = self.fds.iter().take_while(|(owner, _)| *owner == at).count();
        fds.extend(self.fds.drain(..own).map(|(_, fd)| fd));
        let truncated = self.truncated.front() == Some(&at);
        if truncated {
            self.truncated.pop_front();
        }
        self.start += packet.len();
        Ok(Some(Frame { packet, truncated }))
    }

    /// Returns the header of the message that made [`Decoder::next`] fail.
    pub fn offender(&self) -> Option<Header> {
        let bytes = self.buffer.get(self.start..self.end)?;
        bytes.first_chunk().map(Header::from_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Decoder, Header};

    fn feed(decoder: &mut Decoder, bytes: &[u8], truncated: bool) {
        decoder.room()[..bytes.len()].copy_from_slice(bytes);
        decoder.filled(bytes.len(), None, truncated).unwrap();
    }

    /// A SET_IRQS that lost its descriptors would detach the vectors.
    #[test]
    fn every_message_that_lost_descriptors_is_known() {
        let mut decoder = Decoder::new(1 << 16);
        let message = Header { id: 1, command: 8, size: 20, flags: 0, error: 0 }.to_bytes();
        feed(&mut decoder, &message, true);
        // The rest of the first, and the second, which has lost descriptors, too.
        feed(&mut decoder, &[&[0; 4], &message[..]].concat(), true);
        feed(&mut decoder, &[&[0; 4], &message[..], &[0; 4]].concat(), false);
        let mut taken = || decoder.next(&mut Vec::new()).unwrap().map(|frame| frame.truncated);
        assert_eq!(
            [taken(), taken(), taken(), taken()],
            [Some(true), Some(true), Some(false), None]
        );
    }
}
