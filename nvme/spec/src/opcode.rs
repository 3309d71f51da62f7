//! Commands by their opcode.

/// Commands of the admin queue.
pub mod admin {
    /// Delete I/O Submission Queue.
    pub const DELETE_SUBMISSION: u8 = 0x00;
    /// Create I/O Submission Queue.
    pub const CREATE_SUBMISSION: u8 = 0x01;
    /// Get Log Page.
    pub const GET_LOG: u8 = 0x02;
    /// Delete I/O Completion Queue.
    pub const DELETE_COMPLETION: u8 = 0x04;
    /// Create I/O Completion Queue.
    pub const CREATE_COMPLETION: u8 = 0x05;
    /// Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Abort.
    pub const ABORT: u8 = 0x08;
    /// Set Features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Get Features.
    pub const GET_FEATURES: u8 = 0x0a;
    /// Asynchronous Event Request.
    pub const ASYNC_EVENT: u8 = 0x0c;
    /// Doorbell Buffer Config.
    pub const DOORBELL_BUFFER: u8 = 0x7c;
}

/// Commands of the I/O queues.
pub mod io {
    /// Flush.
    pub const FLUSH: u8 = 0x00;
    /// Write.
    pub const WRITE: u8 = 0x01;
    /// Read.
    pub const READ: u8 = 0x02;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u8 = 0x09;
}
