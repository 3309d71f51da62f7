//! Errors of the test environment, as opposed to failures of the driver under test.

use crate::Answer;

/// Why a test could not be tried. Each error reads as a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation on a file of the system, or on a process, failed. `fs_err` names the file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A PCI address without a device, or a device that is not bound to a VFIO driver.
    #[error("{bdf} is not a device that VFIO can open: {why}")]
    Device {
        /// The address.
        bdf: String,
        /// The missing condition.
        why: String,
    },
    /// VFIO refused a step of the set-up.
    #[error("{step} was refused with {answer}")]
    Refused {
        /// The step.
        step: &'static str,
        /// The answer.
        answer: Answer,
    },
    /// Memory could not be mapped.
    #[error("{len} bytes of memory cannot be mapped: {source}")]
    Map {
        /// The length of the memory.
        len: usize,
        /// The cause.
        source: rustix::io::Errno,
    },
    /// An access outside the memory it was meant for.
    #[error("offset {offset:#x} is outside a mapping of {len:#x} bytes, or not aligned")]
    Outside {
        /// The offset of the access.
        offset: usize,
        /// The length of the memory.
        len: usize,
    },
    /// An operation on an eventfd or another own descriptor failed.
    #[error("a descriptor cannot be {what}: {source}")]
    Descriptor {
        /// The operation.
        what: &'static str,
        /// The cause.
        source: rustix::io::Errno,
    },
    /// The registers cannot be mapped.
    #[error("BAR {0} of the device is not there or cannot be mapped")]
    Unmappable(u32),
    /// The device has no MSI-X.
    #[error("the device has no table of MSI-X")]
    NoTable,
    /// The device does not behave as its manual says.
    #[error("the {device} does not answer: {why}")]
    Silent {
        /// The kind of the device.
        device: &'static str,
        /// The event that did not happen.
        why: String,
    },
    /// The target cannot raise this interrupt.
    #[error("this target cannot raise vector {vector} of {index:?}")]
    Unraisable {
        /// The index.
        index: crate::Index,
        /// The vector.
        vector: u32,
    },
    /// A request that no message of vfio-user carries.
    #[error("vfio-user cannot carry this request")]
    Uncarried,
    /// A vfio-user server did not answer, or not as the protocol says.
    #[error(transparent)]
    Client(#[from] vfio_irq_user::ClientError),
    /// Two tables of answers differ where they must not, or a file is not such a table.
    #[error("{0}")]
    Table(String),
    /// A target did what the contract does not say.
    #[error("{why}, after these steps:\n{steps}")]
    Differs {
        /// The difference.
        why: String,
        /// The smallest sequence of steps that shows it.
        steps: String,
    },
    /// A measurement without meaning.
    #[error("{what} cannot be measured: {why}")]
    Measure {
        /// The operation.
        what: String,
        /// The cause.
        why: String,
    },
}
