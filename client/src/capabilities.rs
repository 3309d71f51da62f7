//! The capabilities of an index.

use crate::{Error, Index, Name, Operation, SetIrqs, Transport};
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
    /// Queries an index. Returns its capabilities. If the device has no INTx, MSI or MSI-X, the
    /// count is 0.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the host does not know the index.
    pub fn of<T: Transport + ?Sized>(transport: &T, index: Index) -> Result<Self, Error> {
        let info = transport.irq_info(index).map_err(|source| Error::Refused {
            what: Operation { verb: "query", index: Name(index), start: 0, count: 0 },
            source,
        })?;
        Ok(Self { index, count: info.count, flags: info.flags })
    }

    /// Returns the index of this answer.
    pub fn index(&self) -> Index {
        self.index
    }

    /// Returns the number of vectors of the device; 0 if the device has none. For MSI-X this is
    /// the size of the table, not the number of interrupts that the host can allocate.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns true if interrupts signal eventfds. [`crate::Vectors`], [`crate::Intx`] and
    /// [`crate::Event`] treat an index without that flag as absent.
    pub fn eventfd(&self) -> bool {
        self.flags & flags::INFO_EVENTFD != 0
    }

    /// Returns true if user space can mask vectors. Linux sets the flag for INTx only. Hosts of
    /// this project also set it for MSI-X, and for MSI if the function has mask bits (I-07).
    pub fn maskable(&self) -> bool {
        self.flags & flags::INFO_MASKABLE != 0
    }

    /// Returns true if an interrupt masks the index until user space unmasks it (INTx).
    pub fn automasked(&self) -> bool {
        self.flags & flags::INFO_AUTOMASKED != 0
    }

    /// Returns true if a vector can be added while others are in use. The host then does not set
    /// NORESIZE (I-05).
    pub fn resizable(&self) -> bool {
        self.flags & flags::INFO_NORESIZE == 0
    }

    /// Returns `self` if the index has interrupts that signal eventfds, else [`Error::Absent`].
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

/// Sends a request. Returns an error that names the request if the device refuses it.
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
        Ok(available) => {
            Err(Error::TooFew { index, asked: start.saturating_add(count), available })
        }
        Err(source) => {
            Err(Error::Refused { what: Operation { verb, index, start, count }, source })
        }
    }
}
