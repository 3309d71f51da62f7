//! What can go wrong, as sentences.

use crate::Index;
use std::fmt;
use std::io;

/// Why a call was not carried out. Unless it is [`Error::Unrestored`], everything is as it was.
///
/// ```
/// use vfio_irq::{Error, Index, Trigger, Vectors, sim::Simulated};
///
/// let vectors = Vectors::open(Simulated::new(), Index::Msix)?;
/// let error = vectors.enable(64, Trigger::new()?).unwrap_err();
/// assert!(matches!(error, Error::NoSuchVector { number: 64, .. }));
/// assert_eq!(error.to_string(), "MSI-X has no vector 64: it has 64, counted from 0");
/// assert_eq!(error.errno(), None, "the device was not even asked");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device said no.
    #[error("{what} was refused: {source}{}", hint(source))]
    Refused {
        /// What was asked of it.
        what: What,
        /// What it answered.
        source: io::Error,
    },
    /// The host has fewer interrupts than the request needs.
    #[error(
        "{asked} vectors of {index} are not to be had at once: the host has {there}; ask for fewer, or free others"
    )]
    TooFew {
        /// Which index.
        index: Name,
        /// How many were asked for.
        asked: u32,
        /// How many there are.
        there: u32,
    },
    /// The device has no interrupts of this kind.
    #[error("the device has no {index}")]
    Absent {
        /// Which index.
        index: Name,
    },
    /// The index is not of the kind that the call takes.
    #[error("{index} is not what this takes: {takes}")]
    WrongIndex {
        /// Which index.
        index: Name,
        /// What would be right.
        takes: &'static str,
    },
    /// A vector beyond the table.
    #[error("{index} has no vector {number}: it has {count}, counted from 0")]
    NoSuchVector {
        /// Which index.
        index: Name,
        /// Which vector.
        number: u32,
        /// How many there are.
        count: u32,
    },
    /// A vector beyond those that were reserved, on a host that cannot add any.
    #[error(
        "vector {number} of {index} is beyond the {reserved} that were reserved, and the host cannot add vectors: reserve more, or choose NoResize::Reenable"
    )]
    BeyondReserved {
        /// Which index.
        index: Name,
        /// Which vector.
        number: u32,
        /// How many were reserved.
        reserved: u32,
    },
    /// Somebody else holds the vector.
    #[error("vector {number} of {index} is enabled already: re-target it through its handle")]
    Enabled {
        /// Which index.
        index: Name,
        /// Which vector.
        number: u32,
    },
    /// One call names a vector twice.
    #[error("vector {number} of {index} is named twice in one call")]
    Twice {
        /// Which index.
        index: Name,
        /// Which vector.
        number: u32,
    },
    /// The handle is older than a [`crate::Vectors::disable`], or its [`crate::Vectors`] is gone.
    #[error("vector {number} is not enabled any more: its index was disabled")]
    Disabled {
        /// Which vector.
        number: u32,
    },
    /// The host cannot mask these interrupts.
    #[error("{index} cannot be masked by this host: it does not say MASKABLE")]
    NotMaskable {
        /// Which index.
        index: Name,
    },
    /// A request failed and what was there before could not be brought back.
    #[error("{cause}; and vectors {lost:?}, which were enabled before, could not be brought back")]
    Unrestored {
        /// The first failure.
        #[source]
        cause: Box<Error>,
        /// The vectors that are gone: their handles are stale.
        lost: Vec<u32>,
    },
    /// An eventfd or another descriptor of this process.
    #[error("{what}: {source}")]
    Descriptor {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A guest's access to its table that PCI does not allow.
    #[cfg(feature = "kvm")]
    #[error(
        "{len} bytes at offset {offset:#x} are no access to the MSI-X table: 4 or 8 bytes, aligned and inside, would be"
    )]
    Access {
        /// Where.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
    /// What was saved is of another table.
    #[cfg(feature = "kvm")]
    #[error(
        "{table} bytes of table and {pending} of pending bits are not those of a table of {entries} entries, which has {} and {}",
        .entries.saturating_mul(16), .entries.div_ceil(64).saturating_mul(8)
    )]
    NotThisTable {
        /// How many entries this table has.
        entries: usize,
        /// How many bytes of table were saved.
        table: usize,
        /// How many bytes of pending bits were saved.
        pending: usize,
    },
    /// KVM said no.
    #[cfg(feature = "kvm")]
    #[error("KVM refused {what}: {source}")]
    Kvm {
        /// What was asked of it.
        what: &'static str,
        /// What it answered.
        source: io::Error,
    },
}

/// What is usually behind an error number.
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

    /// The error number behind it, where the system gave one.
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

/// The name of an index as people write it.
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

/// What was asked of a device.
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
    /// What to do, as a word.
    pub verb: &'static str,
    /// Which index.
    pub index: Name,
    /// The first vector.
    pub start: u32,
    /// How many vectors; 0 for the index as a whole.
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
