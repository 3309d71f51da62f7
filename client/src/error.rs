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
    #[error("cannot {what}: {source}{}", hint(source))]
    Refused {
        /// The request.
        what: Operation,
        /// The error of the device.
        source: io::Error,
    },
    /// The host has fewer interrupts than the request needs (V-06).
    #[error(
        "the host has {available} interrupts for the {asked} vectors of {index}: ask for fewer vectors, or free other interrupts"
    )]
    TooFew {
        /// The index.
        index: Name,
        /// Number of vectors that the request needs.
        asked: u32,
        /// Number of vectors that the host has.
        available: u32,
    },
    /// The device does not have this index.
    #[error("the device has no {index}")]
    Absent {
        /// The index.
        index: Name,
    },
    /// The call does not support the index.
    #[error("this call takes {takes}, not {index}")]
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
    AlreadyEnabled {
        /// The index.
        index: Name,
        /// The vector.
        number: u32,
    },
    /// One call names a vector twice.
    #[error("vector {number} of {index} is named twice in one call")]
    Duplicate {
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
    #[error("the host cannot mask vectors of {index}: GET_IRQ_INFO does not report MASKABLE")]
    NotMaskable {
        /// The index.
        index: Name,
    },
    /// A request failed, and the library could not restore the previous state.
    #[error("{cause}; vectors {lost:?}, which were enabled before, are now detached")]
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
    #[error(
        "{len} bytes at offset {offset:#x} of the MSI-X table: an access has 4 or 8 bytes, is aligned, and ends inside the table"
    )]
    Access {
        /// Offset in bytes from the start of the table.
        offset: u64,
        /// Length in bytes.
        len: usize,
    },
    /// The saved state belongs to a table of another size.
    #[error(
        "the saved state has {table} bytes of table and {pending} of pending bits: a table of {entries} entries has {} and {}",
        .entries.saturating_mul(16), .entries.div_ceil(64).saturating_mul(8)
    )]
    WrongTableSize {
        /// Number of entries of this table.
        entries: usize,
        /// Number of saved bytes of table.
        table: usize,
        /// Number of saved bytes of pending bits.
        pending: usize,
    },
    /// The hypervisor refused a request, or the VMM's [`crate::msix::Routes`] failed.
    #[error("the hypervisor refused {what}: {source}")]
    Hypervisor {
        /// The request.
        what: &'static str,
        /// The error of the hypervisor.
        source: io::Error,
    },
}

pub(crate) fn hypervisor<R>(what: &'static str, outcome: io::Result<R>) -> Result<R, Error> {
    outcome.map_err(|source| Error::Hypervisor { what, source })
}

/// Returns the usual cause of an error number.
fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::INVAL) => {
            ". Only one of INTx, MSI and MSI-X can be enabled; a trigger must be an eventfd; a character device must be bound to an iommufd"
        }
        Some(rustix::io::Errno::NOSPC) => {
            ". The host has no interrupt left: let queues share vectors, or free other interrupts"
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
            Self::Refused { source, .. }
            | Self::Descriptor { source, .. }
            | Self::Hypervisor { source, .. } => source.raw_os_error(),
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

/// A request to a device, as error messages name it.
///
/// ```
/// use vfio_irq::{Index, Name, Operation};
///
/// let what = Operation { verb: "attach", index: Name(Index::Msix), start: 2, count: 3 };
/// assert_eq!(what.to_string(), "attach vectors 2 to 4 of MSI-X");
/// assert_eq!(Operation { count: 0, verb: "disable", ..what }.to_string(), "disable MSI-X");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    /// The action, such as "attach".
    pub verb: &'static str,
    /// The index.
    pub index: Name,
    /// The first vector.
    pub start: u32,
    /// Number of vectors; 0 for the whole index.
    pub count: u32,
}

impl fmt::Display for Operation {
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
