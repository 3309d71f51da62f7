//! Queue entries.

use crate::Status;

/// The size of a submission queue entry.
pub const COMMAND_SIZE: u64 = 64;

/// The size of a completion queue entry.
pub const COMPLETION_SIZE: u64 = 16;

/// A fetched command.
#[derive(Clone, Copy, Debug)]
pub struct Command([u8; 64]);

impl Command {
    /// Returns the command of these bytes.
    pub const fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Returns one of the 16 words, or 0 beyond them.
    pub fn word(&self, number: usize) -> u32 {
        let (words, _) = self.0.as_chunks::<4>();
        words.get(number).map_or(0, |word| u32::from_le_bytes(*word))
    }

    /// Returns two adjacent words.
    pub fn wide(&self, number: usize) -> u64 {
        u64::from(self.word(number)) | u64::from(self.word(number + 1)) << 32
    }

    /// Returns the opcode: [`crate::opcode`].
    pub fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// Returns the command ID, which the completion repeats.
    pub fn id(&self) -> u16 {
        high(self.word(0))
    }

    /// Returns the namespace ID.
    pub fn namespace(&self) -> u32 {
        self.word(1)
    }

    /// Returns PRP entry 1.
    pub fn prp1(&self) -> u64 {
        self.wide(6)
    }

    /// Returns PRP entry 2, which may point to a PRP list.
    pub fn prp2(&self) -> u64 {
        self.wide(8)
    }

    /// Returns true for a fused command or a command with SGLs: the controller supports neither.
    pub fn is_exotic(&self) -> bool {
        self.0[1] & 0b1100_0011 != 0
    }
}

/// Returns the lower half of a word.
pub const fn low(word: u32) -> u16 {
    let [a, b, _, _] = word.to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// Returns the upper half of a word.
pub const fn high(word: u32) -> u16 {
    low(word >> 16)
}

/// Returns the last word of a completion. It holds the phase bit, so it is written last.
pub fn last_word(command: u16, status: Status, phase: bool) -> u32 {
    u32::from(command) | u32::from(phase) << 16 | u32::from(status.bits()) << 17
}

/// Returns the other words of a completion.
pub fn first_words(result: u32, queue: u16, head: u16) -> [u8; 12] {
    let mut bytes = [0; 12];
    let ([a, _, b], _) = bytes.as_chunks_mut::<4>() else { return bytes };
    *a = result.to_le_bytes();
    *b = (u32::from(head) | u32::from(queue) << 16).to_le_bytes();
    bytes
}
