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
    ///
    /// ```
    /// # use vfio_irq::{Capabilities, Index, sim::{IrqCaps, Simulated}};
    /// let device = Simulated::with(IrqCaps { msi: 0, msix: 16, ..IrqCaps::default() });
    /// let lines = Index::ALL.map(|index| Capabilities::of(&device, index).map(|all| all.to_string()));
    /// let [intx, msi, msix, ..] = lines;
    /// assert_eq!(intx?, "INTx: 1 vector, added at any time, maskable");
    /// assert_eq!(msi?, "MSI: none"); // not there is no error here
    /// assert_eq!(msix?, "MSI-X: 16 vectors, added at any time, maskable");
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn of<T: Transport + ?Sized>(transport: &T, index: Index) -> Result<Self, Error> {
        let info = transport.irq_info(index).map_err(|source| Error::Refused {
            what: What { verb: "to say what it has of", index: Name(index), start: 0, count: 0 },
            source,
        })?;
        Ok(Self { index, count: info.count, flags: info.flags })
    }

    /// Which index this is the answer for.
    ///
    /// ```
    /// # use vfio_irq::{Capabilities, Index, Vectors, sim::Simulated};
    /// let vectors = Vectors::open(Simulated::new(), Index::Msi)?;
    /// assert_eq!(vectors.capabilities().index(), Index::Msi);
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn index(&self) -> Index {
        self.index
    }

    /// How many vectors the device has (the size of its MSI-X table, not what the host can
    /// allocate); 0: none of this kind.
    ///
    /// ```
    /// # use vfio_irq::{Capabilities, Index, sim::Simulated};
    /// let table = 16 * u64::from(Capabilities::of(&Simulated::new(), Index::Msix)?.count());
    /// assert_eq!(table, 1024, "bytes of the MSI-X table");
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether interrupts signal eventfds. [`crate::Vectors`], [`crate::Line`] and [`crate::Event`]
    /// take an index that does not say so for absent.
    ///
    /// ```
    /// # use vfio_irq::{Capabilities, Index, sim::Simulated};
    /// # let device = Simulated::new();
    /// for index in Index::ALL {
    ///     assert!(Capabilities::of(&device, index)?.eventfd(), "every index of a device in Linux");
    /// }
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn eventfd(&self) -> bool {
        self.flags & flags::INFO_EVENTFD != 0
    }

    /// Whether vectors can be masked: Linux says so of INTx alone, hosts of this project also of MSI-X,
    /// and of MSI where the function has mask bits (I-07).
    ///
    /// ```
    /// # use vfio_irq::{Capabilities, Index, sim::{IrqCaps, Simulated}};
    /// let device = Simulated::with(IrqCaps { msi_maskable: false, ..IrqCaps::default() });
    /// assert!(!Capabilities::of(&device, Index::Msi)?.maskable(), "a function without mask bits");
    /// assert!(Capabilities::of(&device, Index::Msix)?.maskable());
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn maskable(&self) -> bool {
        self.flags & flags::INFO_MASKABLE != 0
    }

    /// Whether an interrupt masks itself until it is unmasked (INTx).
    ///
    /// ```
    /// # use vfio_irq::{Capabilities, Index, sim::Simulated};
    /// # let device = Simulated::new();
    /// assert!(Capabilities::of(&device, Index::Intx)?.automasked());
    /// assert!(!Capabilities::of(&device, Index::Msix)?.automasked(), "a message is sent once");
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
    pub fn automasked(&self) -> bool {
        self.flags & flags::INFO_AUTOMASKED != 0
    }

    /// Whether a vector can be added while others are in use: the host does not say NORESIZE
    /// (I-05).
    ///
    /// ```
    /// # use vfio_irq::{Capabilities, Index, sim::{IrqCaps, Simulated}};
    /// // As Linux 6.1: choose a `NoResize` there.
    /// let old = Simulated::with(IrqCaps { dynamic: false, ..IrqCaps::default() });
    /// assert!(!Capabilities::of(&old, Index::Msix)?.resizable());
    /// assert!(Capabilities::of(&Simulated::new(), Index::Msix)?.resizable());
    /// assert!(!Capabilities::of(&Simulated::new(), Index::Msi)?.resizable(), "MSI never is");
    /// # Ok::<(), vfio_irq::Error>(())
    /// ```
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
