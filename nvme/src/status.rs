//! How a command ended.

/// The status field of a completion, without its phase bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Status(u16);

/// Trying again would end the same way.
const DO_NOT_RETRY: u16 = 1 << 14;

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

    /// The 15 bits of a completion.
    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    /// Whether the medium failed, not the command.
    pub(crate) const fn is_media(self) -> bool {
        self.0 & 0x700 == MEDIA
    }
}
