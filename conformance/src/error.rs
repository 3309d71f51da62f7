//! What can go wrong beside the thing under test.

use crate::Answer;
use std::path::PathBuf;

/// Why something could not be tried. Each reads as a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the system.
    #[error("{path} cannot be used: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A PCI address that no device has, or that is not bound to a VFIO driver.
    #[error("{bdf} is not a device that VFIO can open: {why}")]
    Device {
        /// The address.
        bdf: String,
        /// What is missing.
        why: String,
    },
    /// A step of the set-up that VFIO refused.
    #[error("{step} was refused with {answer}")]
    Refused {
        /// What was asked.
        step: &'static str,
        /// What came back.
        answer: Answer,
    },
    /// Memory.
    #[error("{len} bytes of memory cannot be mapped: {source}")]
    Map {
        /// How much.
        len: usize,
        /// Why.
        source: rustix::io::Errno,
    },
    /// An access beside the memory that it was meant for.
    #[error("offset {offset:#x} is outside a mapping of {len:#x} bytes, or not aligned")]
    Outside {
        /// Where.
        offset: usize,
        /// How much there is.
        len: usize,
    },
    /// An eventfd or another descriptor of ours.
    #[error("a descriptor cannot be {what}: {source}")]
    Descriptor {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: rustix::io::Errno,
    },
    /// The device itself does not do what its manual says.
    #[error("the {device} does not answer: {why}")]
    Silent {
        /// Which kind of device.
        device: &'static str,
        /// What was waited for.
        why: String,
    },
    /// Asked to raise an interrupt that this target cannot raise.
    #[error("this target cannot raise vector {vector} of {index:?}")]
    Unraisable {
        /// The index.
        index: crate::Index,
        /// The vector.
        vector: u32,
    },
    /// Two tables of answers differ where they must not, or a file is no such table.
    #[error("{0}")]
    Table(String),
    /// A measurement that does not mean anything.
    #[error("{what} cannot be measured: {why}")]
    Measure {
        /// Which operation.
        what: String,
        /// Why not.
        why: String,
    },
}
