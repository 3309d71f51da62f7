//! How a command ended, in the controller's words.

use std::fmt;

/// The status of a completion that is no success.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Status(u16);

impl Status {
    /// From the upper half of a completion's last word; `None` is success.
    pub(super) fn new(bits: u16) -> Option<Self> {
        // Bit 0 is the phase. What it says of retrying is no part of what happened.
        let status = Self(bits >> 1);
        (status.code_type() != 0 || status.code() != 0).then_some(status)
    }

    /// Status code type: 0 generic, 1 of this command, 2 of the medium.
    pub fn code_type(self) -> u8 {
        (self.0 >> 8 & 7).to_le_bytes()[0]
    }

    /// Status code.
    pub fn code(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// Whether the same command would fail again (DNR).
    pub fn is_final(self) -> bool {
        self.0 >> 14 & 1 != 0
    }

    fn name(self) -> &'static str {
        match (self.code_type(), self.code()) {
            (0, 0x01) => "invalid opcode",
            (0, 0x02) => "invalid field",
            (0, 0x04) => "data transfer error",
            (0, 0x05) => "power loss",
            (0, 0x06) => "internal error",
            (0, 0x07) => "aborted by request",
            (0, 0x08) => "aborted: its queue was deleted",
            (0, 0x0b) => "invalid namespace",
            (0, 0x0c) => "command sequence error",
            (0, 0x13) => "invalid PRP offset",
            (0, 0x80) => "LBA out of range",
            (0, 0x81) => "capacity exceeded",
            (0, 0x82) => "namespace not ready",
            (1, 0x00) => "invalid completion queue",
            (1, 0x01) => "invalid queue identifier",
            (1, 0x02) => "invalid queue size",
            (1, 0x08) => "invalid interrupt vector",
            (1, 0x0c) => "invalid queue deletion",
            (2, 0x80) => "write fault",
            (2, 0x81) => "unrecovered read error",
            (2, 0x86) => "access denied",
            (0, _) => "generic error",
            (1, _) => "error of this command",
            (2, _) => "media error",
            _ => "unknown error",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (type {:#x}, code {:#04x})", self.name(), self.code_type(), self.code())
    }
}
