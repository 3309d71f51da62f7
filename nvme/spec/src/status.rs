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

macro_rules! codes {
    ($($name:ident = $code:expr, $text:literal;)*) => {
        impl Status {
            $(#[doc = concat!("\"", $text, "\"")] pub const $name: Self = $code;)*
        }

        /// The names of the codes.
        const NAMES: &[(Status, &str)] = &[$((Status::$name, $text)),*];
    };
}

codes! {
    SUCCESS = Self::retry(0), "success";
    INVALID_OPCODE = Self::end(GENERIC | 0x01), "invalid opcode";
    INVALID_FIELD = Self::end(GENERIC | 0x02), "invalid field";
    DATA_TRANSFER = Self::end(GENERIC | 0x04), "data transfer error";
    ABORTED = Self::end(GENERIC | 0x07), "aborted by request";
    INVALID_NAMESPACE = Self::end(GENERIC | 0x0b), "invalid namespace";
    SEQUENCE = Self::end(GENERIC | 0x0c), "command sequence error";
    PRP_OFFSET = Self::end(GENERIC | 0x13), "invalid PRP offset";
    LBA_RANGE = Self::end(GENERIC | 0x80), "LBA out of range";
    CAPACITY = Self::end(GENERIC | 0x81), "capacity exceeded";
    COMPLETION_QUEUE = Self::end(SPECIFIC), "invalid completion queue";
    QUEUE_ID = Self::end(SPECIFIC | 0x01), "invalid queue identifier";
    QUEUE_SIZE = Self::end(SPECIFIC | 0x02), "invalid queue size";
    TOO_MANY_EVENTS = Self::end(SPECIFIC | 0x05), "too many requests for events";
    VECTOR = Self::end(SPECIFIC | 0x08), "invalid interrupt vector";
    LOG_PAGE = Self::end(SPECIFIC | 0x09), "invalid log page";
    QUEUE_DELETION = Self::end(SPECIFIC | 0x0c), "invalid queue deletion";
    NOT_SAVEABLE = Self::end(SPECIFIC | 0x0d), "feature that cannot be saved";
    WRITE_FAULT = Self::retry(MEDIA | 0x80), "write fault";
    READ_ERROR = Self::retry(MEDIA | 0x81), "unrecovered read error";
    POWER_LOSS = Self::retry(GENERIC | 0x05), "power loss";
    INTERNAL = Self::retry(GENERIC | 0x06), "internal error";
    QUEUE_DELETED = Self::retry(GENERIC | 0x08), "aborted: its queue was deleted";
    NOT_READY = Self::retry(GENERIC | 0x82), "namespace not ready";
    ACCESS_DENIED = Self::retry(MEDIA | 0x86), "access denied";
}

impl Status {
    const fn retry(code: u16) -> Self {
        Self(code)
    }

    const fn end(code: u16) -> Self {
        Self(code | DO_NOT_RETRY)
    }

    /// Decodes the upper half of the last word of a completion. Returns `None` for success.
    pub fn of_failure(half: u16) -> Option<Self> {
        // Bit 0 is the phase. DNR does not matter for success.
        Some(Self(half >> 1)).filter(|status| status.0 & KIND != 0)
    }

    /// Returns the 15 bits of the status field.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Returns true if the medium failed, not the command.
    pub const fn is_media(self) -> bool {
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
