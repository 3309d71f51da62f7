//! What is read from the socket, message by message.

use crate::transport::{self, Broken};
use crate::wire::{Decoder, Packet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A whole message with its descriptors, in memory that is used again.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// Descriptors came with it that this process had no room for.
    pub(crate) robbed: bool,
}

impl Message {
    /// The message as a packet; it is whole.
    pub(crate) fn packet(&self) -> Option<Packet<'_>> {
        Packet::split(&self.bytes).ok().flatten()
    }
}

/// What the thread has that reads the socket: one at a time.
pub(super) struct Reader {
    pub(super) decoder: Decoder,
    /// The message that has begun, by its place in the stream, and when it has to be there.
    begun: Option<(u64, Instant)>,
}

impl Reader {
    pub(super) fn new(longest: usize) -> Self {
        Self { decoder: Decoder::new(longest), begun: None }
    }

    /// When the message has to be there that has begun: `stall` after its first byte, whichever thread
    /// has read that, and however the other bytes trickle in. `None` between messages.
    pub(super) fn message_due(&mut self, stall: Duration) -> Option<Instant> {
        if !self.decoder.is_amid() {
            return None;
        }
        Some(due(&mut self.begun, self.decoder.place(), transport::after(stall)))
    }

    /// Takes the next message out; whether there was one.
    pub(super) fn take(&mut self, message: &mut Message) -> Result<bool, Broken> {
        let next = self.decoder.next(&mut message.fds).map_err(Broken::Garbage)?;
        let Some(frame) = next else { return Ok(false) };
        message.robbed = frame.robbed;
        message.bytes.clear();
        message.bytes.extend_from_slice(&frame.packet.header().to_bytes());
        message.bytes.extend_from_slice(frame.packet.payload());
        Ok(true)
    }
}

/// When the message at this place has to be there: `until`, if it has just begun.
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

    /// Replies for threads of the device's may follow each other without an end.
    #[test]
    fn each_message_has_its_own_time() {
        let (mut begun, now) = (None, Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(due(&mut begun, 100, at(10)), at(10));
        assert_eq!(due(&mut begun, 100, at(11)), at(10), "however its bytes trickle in");
        assert_eq!(due(&mut begun, 120, at(15)), at(15));
    }
}
