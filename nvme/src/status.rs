//! The status field of completions.

use std::fmt;

/// The status field of a completion (bits 17 to 31 of its last word), without the phase bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Status(u16);

/// Do Not Retry (DNR).
const DO_NOT_RETRY: u16 = 1 << 14;
/// Status code type and status code, without DNR.
const KIND: u16 = 0x7ff;

/// Status code types.
const GENERIC: u16 = 0;
const SPECIFIC: u16 = 1 << 8;
const MEDIA: u16 = 2 << 8;

impl Status {
    pub(crate) const SUCCESS: Self = Self(0);
    pub(crate) const INVALID_OPCODE: Self = Self::end(GENERIC | 0x01);
    pub(crate) const INVALID_FIELD: Self = Self::end(GENERIC | 0x02);
    pub(crate) const DATA_TRANSFER: Self = Self::end(GENERIC | 0x04);
    pub(crate) const ABORTED: Self = Self::end(GENERIC | 0x07);
    pub(crate) const INVALID_NAMESPACE: Self = Self::end(GENERIC | 0x0b);
    pub(crate) const SEQUENCE: Self = Self::end(GENERIC | 0x0c);
    pub(crate) const PRP_OFFSET: Self = Self::end(GENERIC | 0x13);
    pub(crate) const LBA_RANGE: Self = Self::end(GENERIC | 0x80);
    pub(crate) const CAPACITY: Self = Self::end(GENERIC | 0x81);
    pub(crate) const COMPLETION_QUEUE: Self = Self::end(SPECIFIC);
    pub(crate) const QUEUE_ID: Self = Self::end(SPECIFIC | 0x01);
    pub(crate) const QUEUE_SIZE: Self = Self::end(SPECIFIC | 0x02);
    pub(crate) const TOO_MANY_EVENTS: Self = Self::end(SPECIFIC | 0x05);
    pub(crate) const VECTOR: Self = Self::end(SPECIFIC | 0x08);
    pub(crate) const LOG_PAGE: Self = Self::end(SPECIFIC | 0x09);
    pub(crate) const QUEUE_DELETION: Self = Self::end(SPECIFIC | 0x0c);
    pub(crate) const NOT_SAVEABLE: Self = Self::end(SPECIFIC | 0x0d);
    pub(crate) const WRITE_FAULT: Self = Self(MEDIA | 0x80);
    pub(crate) const READ_ERROR: Self = Self(MEDIA | 0x81);

    const fn end(code: u16) -> Self {
        Self(code | DO_NOT_RETRY)
    }

    /// Decodes the upper half of the last word of a completion. Returns `None` for success.
    pub(crate) fn of_failure(half: u16) -> Option<Self> {
        // Bit 0 is the phase. DNR does not matter for success.
        Some(Self(half >> 1)).filter(|status| status.0 & KIND != 0)
    }

    /// Returns the 15 bits of the status field.
    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    /// Returns true if the medium failed, not the command.
    pub(crate) const fn is_media(self) -> bool {
        self.0 & 0x700 == MEDIA
    }

    /// Returns the status code type (SCT): 0 generic, 1 command specific, 2 media.
    pub fn code_type(self) -> u8 {
        (self.0 >> 8 & 7).to_le_bytes()[0]
    }

    /// Returns the status code (SC), whose meaning depends on the type.
    pub fn code(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// Returns true if a retry would fail as well (DNR).
    pub fn is_final(self) -> bool {
        self.0 & DO_NOT_RETRY != 0
    }

    fn name(self) -> &'static str {
        let known = NAMES.iter().find(|(known, _)| (known.0 ^ self.0) & KIND == 0);
        match (known, self.code_type()) {
            (Some((_, name)), _) => name,
            (None, 0) => "generic error",
            (None, 1) => "error of this command",
            (None, 2) => "media error",
            (None, _) => "unknown error",
        }
    }
}

/// The names of the codes, including codes that only other controllers return.
const NAMES: &[(Status, &str)] = &[
    (Status::SUCCESS, "success"),
    (Status::INVALID_OPCODE, "invalid opcode"),
    (Status::INVALID_FIELD, "invalid field"),
    (Status::DATA_TRANSFER, "data transfer error"),
    (Status(GENERIC | 0x05), "power loss"),
    (Status(GENERIC | 0x06), "internal error"),
    (Status::ABORTED, "aborted by request"),
    (Status(GENERIC | 0x08), "aborted: its queue was deleted"),
    (Status::INVALID_NAMESPACE, "invalid namespace"),
    (Status::SEQUENCE, "command sequence error"),
    (Status::PRP_OFFSET, "invalid PRP offset"),
    (Status::LBA_RANGE, "LBA out of range"),
    (Status::CAPACITY, "capacity exceeded"),
    (Status(GENERIC | 0x82), "namespace not ready"),
    (Status::COMPLETION_QUEUE, "invalid completion queue"),
    (Status::QUEUE_ID, "invalid queue identifier"),
    (Status::QUEUE_SIZE, "invalid queue size"),
    (Status::TOO_MANY_EVENTS, "too many requests for events"),
    (Status::VECTOR, "invalid interrupt vector"),
    (Status::LOG_PAGE, "invalid log page"),
    (Status::QUEUE_DELETION, "invalid queue deletion"),
    (Status::NOT_SAVEABLE, "feature that cannot be saved"),
    (Status::WRITE_FAULT, "write fault"),
    (Status::READ_ERROR, "unrecovered read error"),
    (Status(MEDIA | 0x86), "access denied"),
];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (type {:#x}, code {:#04x})", self.name(), self.code_type(), self.code())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{NAMES, Status};

    /// The driver decodes what the controller encodes.
    #[test]
    fn a_status_goes_through_a_completion() {
        for (status, name) in NAMES {
            for phase in [0, 1] {
                let told = Status::of_failure(status.bits() << 1 | phase);
                assert_eq!(told, Some(*status).filter(|status| *status != Status::SUCCESS));
            }
            assert!(status.to_string().starts_with(&format!("{name} (type ")), "{status}");
        }
        // DNR does not matter for success.
        assert_eq!(Status::of_failure(1 << 15), None);
        let range = Status::of_failure(Status::LBA_RANGE.bits() << 1).unwrap();
        assert_eq!((range.code_type(), range.code(), range.is_final()), (0, 0x80, true));
        let other = Status::of_failure(0x17f << 1).unwrap();
        assert_eq!(other.to_string(), "error of this command (type 0x1, code 0x7f)");
    }
}
