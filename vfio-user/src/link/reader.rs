//! Reads whole messages from the socket.

use crate::transport::{self, ConnectionError};
use crate::wire::{Decoder, Packet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A whole message with its descriptors, in reused memory.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// Descriptors were lost (MSG_CTRUNC).
    pub(crate) truncated: bool,
}

impl Message {
    /// Returns the message as a packet.
    pub(crate) fn packet(&self) -> Option<Packet<'_>> {
        Packet::split(&self.bytes).ok().flatten()
    }
}

/// The state of the thread that reads the socket; one thread at a time.
pub(super) struct Reader {
    pub(super) decoder: Decoder,
    /// The incomplete message: its position in the stream, and its deadline.
    begun: Option<(u64, Instant)>,
}

impl Reader {
    pub(super) fn new(longest: usize) -> Self {
        Self { decoder: Decoder::new(longest), begun: None }
    }

    /// Returns the deadline of the incomplete message, or `None` between messages. The deadline is
    /// `stall` after the first byte, whichever threads read the message and however slowly bytes
    /// arrive.
    pub(super) fn message_due(&mut self, stall: Duration) -> Option<Instant> {
        if !self.decoder.is_incomplete() {
            return None;
        }
        Some(due(&mut self.begun, self.decoder.place(), transport::after(stall)))
    }

    /// Takes the next whole message. Returns true if there was one, and an error if the bytes do
    /// not decode.
    pub(super) fn take(&mut self, message: &mut Message) -> Result<bool, ConnectionError> {
        let next = self.decoder.next(&mut message.fds).map_err(ConnectionError::Garbage)?;
        let Some(frame) = next else { return Ok(false) };
        message.truncated = frame.truncated;
        message.bytes.clear();
        message.bytes.extend_from_slice(&frame.packet.header().to_bytes());
        message.bytes.extend_from_slice(frame.packet.payload());
        Ok(true)
    }
}

/// Returns the deadline of the message at this position: `until` if the message has just begun.
fn due(begun: &mut Option<(u64, Instant)>, place: u64, until: Instant) -> Instant {
    match begun {
        Some((of, until)) if *of == place => *until,
        _ => begun.insert((place, until)).1,
    }
}

#[cfg(test)]
mod tests {
    use super::due;
    use std::time::{Duration, Instant};

    /// Replies to threads of the device may follow each other without end.
    #[test]
    fn each_message_has_its_own_time() {
        let (mut begun, now) = (None, Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(due(&mut begun, 100, at(10)), at(10));
        assert_eq!(due(&mut begun, 100, at(11)), at(10), "however its bytes trickle in");
        assert_eq!(due(&mut begun, 120, at(15)), at(15));
    }
}
