//! Offsets of the registers in BAR 0, in bytes, and their bits.

/// Controller Capabilities.
pub const CAP: u64 = 0x00;
/// Controller Configuration.
pub const CC: u64 = 0x14;
/// Controller Status.
pub const CSTS: u64 = 0x1c;
/// Admin Queue Attributes.
pub const AQA: u64 = 0x24;
/// Admin Submission Queue Base Address.
pub const ASQ: u64 = 0x28;
/// Admin Completion Queue Base Address.
pub const ACQ: u64 = 0x30;
/// The doorbells: a submission tail and a completion head for each queue.
pub const DOORBELLS: u64 = 0x1000;

/// CSTS: the controller is ready (RDY).
pub const READY: u32 = 1;
/// CSTS: the controller has failed (CFS).
pub const FATAL: u32 = 1 << 1;
/// CSTS: the shutdown is complete (SHST).
pub const SHUTDOWN_DONE: u32 = 2 << 2;
/// CSTS: the bits of the shutdown status (SHST).
pub const SHUTDOWN_STATE: u32 = 3 << 2;
