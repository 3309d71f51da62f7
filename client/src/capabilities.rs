//! What a host says of an index.

use crate::{Error, Index, Name, SetIrqs, Transport, What};
use std::fmt;
use vfio_irq_engine::abi::flags;

/// The answer to `VFIO_DEVICE_GET_IRQ_INFO` (I-03 to I-07).
///
/// ```
/// use vfio_irq::{Capabilities, Index, sim::Simulated};
///
/// let msix = Capabilities::of(&Simulated::new(), Index::Msix)?;
/// assert_eq!(msix.count(), 64);
/// assert!(msix.resizable() && msix.maskable());
/// assert_eq!(msix.to_string(), "MSI-X: 64 vectors, added at any time, maskable");
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    index: Index,
    count: u32,
    flags: u32,
}

impl Capabilities {
    /// Asks about an index. INTx, MSI or MSI-X that a device does not have is an answer, with a
    /// count of 0.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the host does not know the index.
    pub fn of<T: Transport + ?Sized>(transport: &T, index: Index) -> Result<Self, Error> {
        let info = transport.irq_info(index).map_err(|source| Error::Refused {
            what: What { verb: "to say what it has of", index: Name(index), start: 0, count: 0 },
            source,
        })?;
        Ok(Self { index, count: info.count, flags: info.flags })
    }

    /// Which index this is the answer for.
    pub fn index(&self) -> Index {
        self.index
    }

    /// How many vectors the device has (the size of its MSI-X table, not what the host can
    /// allocate); 0: none of this kind.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether interrupts signal eventfds. [`crate::Vectors`], [`crate::Line`] and [`crate::Event`]
    /// take an index that does not say so for absent.
    pub fn eventfd(&self) -> bool {
        self.flags & flags::INFO_EVENTFD != 0
    }

    /// Whether vectors can be masked: Linux says so of INTx alone, hosts of this project also of MSI-X,
    /// and of MSI where the function has mask bits (I-07).
    pub fn maskable(&self) -> bool {
        self.flags & flags::INFO_MASKABLE != 0
    }

    /// Whether an interrupt masks itself until it is unmasked (INTx).
    pub fn automasked(&self) -> bool {
        self.flags & flags::INFO_AUTOMASKED != 0
    }

    /// Whether a vector can be added while others are in use: the host does not say NORESIZE
    /// (I-05).
    pub fn resizable(&self) -> bool {
        self.flags & flags::INFO_NORESIZE == 0
    }

    /// The same, when there are interrupts and they signal eventfds.
    pub(crate) fn present(self) -> Result<Self, Error> {
        if self.count > 0 && self.eventfd() {
            Ok(self)
        } else {
            Err(Error::Absent { index: Name(self.index) })
        }
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = Name(self.index);
        match self.count {
            0 => return write!(f, "{index}: none"),
            1 => write!(f, "{index}: 1 vector")?,
            count => write!(f, "{index}: {count} vectors")?,
        }
        f.write_str(if self.resizable() { ", added at any time" } else { ", enabled as a set" })?;
        f.write_str(if self.maskable() { ", maskable" } else { "" })
    }
}

/// A request, or an error that says which one it was.
pub(crate) fn ask<T: Transport + ?Sized>(
    transport: &T,
    verb: &'static str,
    request: &SetIrqs<'_>,
) -> Result<(), Error> {
    let (start, count) = (request.start, request.count());
    let index = Name(request.index);
    tracing::trace!(%index, verb, start, count, "VFIO_DEVICE_SET_IRQS");
    match transport.set_irqs(request) {
        Ok(0) => Ok(()),
        Ok(there) => Err(Error::TooFew { index, asked: start.saturating_add(count), there }),
        Err(source) => Err(Error::Refused { what: What { verb, index, start, count }, source }),
    }
}
