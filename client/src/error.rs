//! The errors of this crate, each with a message.

use crate::Index;
use std::fmt;
use std::io;

/// The reason for which a call failed. Except for [`Error::Unrestored`], the call has changed
/// nothing.
///
/// ```
/// use vfio_irq::{Error, Index, Trigger, Vectors, sim::Simulated};
///
/// let vectors = Vectors::open(Simulated::new(), Index::Msix)?;
/// let error = vectors.enable(64, Trigger::new()?).unwrap_err();
/// assert!(matches!(error, Error::NoSuchVector { number: 64, .. }));
/// assert_eq!(error.to_string(), "MSI-X has no vector 64: it has 64, counted from 0");
/// assert_eq!(error.errno(), None, "the device receives no request");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device refused the request.
    #[error("{what} was refused: {source}{}", hint(source))]
    Refused {
        /// The request.
        what: What,
        /// The error of the device.
        source: io::Error,
    },
    /// The host has fewer interrupts than the request needs (V-06).
    #[error(
        "{asked} vectors of {index} are not to be had at once: the host has {there}; ask for fewer, or free others"
    )]
    TooFew {
        /// The index.
        index: Name,
        /// Number of vectors that the request needs.
        asked: u32,
        /// Number of vectors that the host has.
        there: u32,
    },
    /// The device does not have this index.
    #[error("the device has no {index}")]
    Absent {
        /// The index.
        index: Name,
    },
    /// The call does not support the index.
    #[error("{index} is not what this takes: {takes}")]
    WrongIndex {
        /// The index.
        index: Name,
        /// The indexes that the call supports.
        takes: &'static str,
    },
    /// A vector beyond the table.
    #[error("{index} has no vector {number}: it has {count}, counted from 0")]
    NoSuchVector {
        /// The index.
        index: Name,
        /// The vector.
        number: u32,
        /// Number of vectors of the index.
        count: u32,
    },
    /// A vector beyond the reserved ones, on a host that cannot add vectors.
    #[error(
        "vector {number} of {index} is beyond the {reserved} that were reserved, and the host cannot add vectors: reserve more, or choose NoResize::Reenable"
    )]
    BeyondReserved {
        /// The index.
        index: Name,
        /// The vector.
        number: u32,
        /// Number of reserved vectors.
        reserved: u32,
    },
    /// Another handle holds the vector.
    #[error("vector {number} of {index} is enabled already: re-target it through its handle")]
    Enabled {
        /// The index.
        index: Name,
        /// The vector.
        number: u32,
    },
    /// One call names a vector twice.
    #[error("vector {number} of {index} is named twice in one call")]
    Twice {
        /// The index.
        index: Name,
        /// The vector.
        number: u32,
    },
    /// The handle is stale: [`crate::Vectors::disable`] was called, or its [`crate::Vectors`] was
    /// dropped.
    #[error("vector {number} is not enabled any more: its index was disabled")]
    Disabled {
        /// The vector.
        number: u32,
    },
    /// The host cannot mask the vectors of this index.
    #[error("{index} cannot be masked by this host: it does not say MASKABLE")]
    NotMaskable {
        /// The index.
        index: Name,
    },
    /// A request failed, and the library could not restore the previous state.
    #[error("{cause}; and vectors {lost:?}, which were enabled before, could not be brought back")]
    Unrestored {
        /// The first failure.
        #[source]
        cause: Box<Error>,
        /// The vectors that are detached now. Their handles are stale.
        lost: Vec<u32>,
    },
    /// A system call on an eventfd or another descriptor of this process failed.
    #[error("{what}: {source}")]
    Descriptor {
        /// The operation.
        what: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
    /// An access of the guest to its table that PCI does not allow.
    #[cfg(feature = "kvm")]
    #[error(
        "{len} bytes at offset {offset:#x} are no access to the MSI-X table: 4 or 8 bytes, aligned and inside, would be"
    )]
    Access {
        /// Offset in bytes from the start of the table.
        offset: u64,
        /// Length in bytes.
        len: usize,
    },
    /// The saved state belongs to a table of another size.
    #[cfg(feature = "kvm")]
    #[error(
        "{table} bytes of table and {pending} of pending bits are not those of a table of {entries} entries, which has {} and {}",
        .entries.saturating_mul(16), .entries.div_ceil(64).saturating_mul(8)
    )]
    NotThisTable {
        /// Number of entries of this table.
        entries: usize,
        /// Number of saved bytes of table.
        table: usize,
        /// Number of saved bytes of pending bits.
        pending: usize,
    },
    /// KVM refused a request.
    #[cfg(feature = "kvm")]
    #[error("KVM refused {what}: {source}")]
    Kvm {
        /// The request.
        what: &'static str,
        /// The error of KVM.
        source: io::Error,
    },
}

/// Returns the usual cause of an error number.
fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::INVAL) => {
            "; a device has one of INTx, MSI and MSI-X enabled at a time, takes eventfds only, and must be bound to its iommufd if it is a character device"
        }
        Some(rustix::io::Errno::NOSPC) => {
            "; the host has no interrupt left: let queues share vectors, or free others"
        }
        _ => "",
    }
}

impl Error {
    pub(crate) fn descriptor(what: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Descriptor { what, source: source.into() }
    }

    /// Returns the error number of the system, or `None` if the error has none.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Descriptor { source, .. } => source.raw_os_error(),
            #[cfg(feature = "kvm")]
            Self::Kvm { source, .. } => source.raw_os_error(),
            Self::Unrestored { cause, .. } => cause.errno(),
            _ => None,
        }
    }
}

/// The name of an index in PCI's spelling.
///
/// ```
/// use vfio_irq::{Index, Name};
///
/// let names = Index::ALL.map(|index| Name(index).to_string());
/// assert_eq!(names, ["INTx", "MSI", "MSI-X", "ERR", "REQ"]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name(pub Index);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Index::Intx => "INTx",
            Index::Msi => "MSI",
            Index::Msix => "MSI-X",
            Index::Err => "ERR",
            Index::Req => "REQ",
        })
    }
}

/// A request to a device, for messages.
///
/// ```
/// use vfio_irq::{Index, Name, What};
///
/// let what = What { verb: "to attach", index: Name(Index::Msix), start: 2, count: 3 };
/// assert_eq!(what.to_string(), "to attach vectors 2 to 4 of MSI-X");
/// assert_eq!(What { count: 0, verb: "to disable", ..what }.to_string(), "to disable MSI-X");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct What {
    /// The action, as an infinitive.
    pub verb: &'static str,
    /// The index.
    pub index: Name,
    /// The first vector.
    pub start: u32,
    /// Number of vectors; 0 for the whole index.
    pub count: u32,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, index, start, count } = *self;
        match count {
            0 => write!(f, "{verb} {index}"),
            1 => write!(f, "{verb} vector {start} of {index}"),
            _ => write!(
                f,
                "{verb} vectors {start} to {} of {index}",
                start.saturating_add(count - 1)
            ),
        }
    }
}
