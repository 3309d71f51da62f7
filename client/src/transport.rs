//! The two interrupt requests of VFIO, on any transport.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use vfio_irq_engine::abi::{Header, flags};

/// The action of a request. Each index supports some actions (C-10).
pub use vfio_irq_engine::abi::Action;

/// An interrupt *index* of VFIO.
pub use vfio_irq_engine::abi::Index;

/// The raw answer to `VFIO_DEVICE_GET_IRQ_INFO`. [`crate::Capabilities`] decodes it.
pub use vfio_irq_engine::abi::Info;

/// A device that answers `VFIO_DEVICE_GET_IRQ_INFO` and `VFIO_DEVICE_SET_IRQS`.
///
/// | transport | feature |
/// |---|---|
/// | a descriptor of the kernel ([`crate::KernelDevice`]) | |
/// | rust-vmm's `VfioDevice` | `vfio-ioctls` |
/// | a vfio-user socket (`vfio_irq_user::Client`) | `vfio-user` |
/// | the simulator (`sim::Simulated`) | `sim` |
///
/// References, boxes and [`Arc`]s of a transport are transports.
///
/// ```
/// use vfio_irq::{Index, Info, SetIrqs, Transport};
/// use std::io;
///
/// /// A device without interrupts.
/// struct Mute;
///
/// impl Transport for Mute {
///     fn irq_info(&self, _: Index) -> io::Result<Info> {
///         Ok(Info { flags: 0, count: 0 })
///     }
///
///     fn set_irqs(&self, _: &SetIrqs<'_>) -> io::Result<u32> {
///         Err(io::ErrorKind::Unsupported.into())
///     }
/// }
/// assert_eq!(Mute.irq_info(Index::Msix)?.count, 0);
/// # Ok::<(), io::Error>(())
/// ```
pub trait Transport {
    /// Queries an index. Returns its flags and its number of vectors (I-03 to I-06).
    ///
    /// # Errors
    ///
    /// The error of the device, with its error number.
    fn irq_info(&self, index: Index) -> io::Result<Info>;

    /// Sends a request. Returns 0 if the device executed it. A positive value is the number of
    /// vectors that the host has; the device has changed **nothing** then (V-06).
    ///
    /// # Errors
    ///
    /// The error of the device, with its error number.
    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32>;
}

macro_rules! forward {
    ($($holder:ty),*) => {$(
        impl<T: Transport + ?Sized> Transport for $holder {
            fn irq_info(&self, index: Index) -> io::Result<Info> {
                (**self).irq_info(index)
            }

            fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
                (**self).set_irqs(request)
            }
        }
    )*};
}
forward!(&T, Box<T>, Arc<T>);

/// A request: an action on a range of vectors.
///
/// ```
/// use vfio_irq::{Action, Data, Index, SetIrqs};
///
/// let mask = SetIrqs { index: Index::Msix, action: Action::Mask, start: 3, data: Data::None { count: 2 } };
/// assert_eq!(mask.count(), 2);
/// assert_eq!(mask.to_bytes().len(), 20);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SetIrqs<'a> {
    /// The index.
    pub index: Index,
    /// The action.
    pub action: Action,
    /// The first vector.
    pub start: u32,
    /// The data, one element for each vector from `start` on.
    pub data: Data<'a>,
}

/// The data of a request (C-07).
///
/// ```
/// use std::os::fd::AsFd;
/// use vfio_irq::{Data, Trigger};
///
/// let trigger = Trigger::new()?;
/// let all_of_four = Data::None { count: 4 };
/// let first_and_third = Data::Bool(&[true, false, true]);
/// let fds = [Some(trigger.as_fd()), None];
/// let attach_one_detach_its_neighbour = Data::Eventfd(&fds);
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// No data: the request applies to every vector of the range.
    None {
        /// Number of vectors.
        count: u32,
    },
    /// A boolean for each vector.
    Bool(&'a [bool]),
    /// An eventfd for each vector. `None` detaches.
    Eventfd(&'a [Option<BorrowedFd<'a>>]),
}

impl SetIrqs<'_> {
    /// Returns the number of vectors from `start` on; 0 for the whole index.
    pub fn count(&self) -> u32 {
        let len = match self.data {
            Data::None { count } => return count,
            Data::Bool(bools) => bools.len(),
            Data::Eventfd(fds) => fds.len(),
        };
        // Every device refuses a range of that length.
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    /// Returns the `flags` of `struct vfio_irq_set`.
    pub fn flags(&self) -> u32 {
        let data = match self.data {
            Data::None { .. } => flags::DATA_NONE,
            Data::Bool(_) => flags::DATA_BOOL,
            Data::Eventfd(_) => flags::DATA_EVENTFD,
        };
        self.action.flag() | data
    }

    /// Returns `struct vfio_irq_set` and its data, as the kernel reads them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (header, data) = self.encode(|fd| fd.as_raw_fd());
        [header.to_bytes().as_slice(), &data].concat()
    }

    /// Returns the header and the data of this request, with these numbers for its descriptors.
    pub(crate) fn encode(
        &self,
        mut number: impl FnMut(BorrowedFd<'_>) -> i32,
    ) -> (Header, Vec<u8>) {
        let data: Vec<u8> = match self.data {
            Data::None { .. } => Vec::new(),
            Data::Bool(bools) => bools.iter().map(|yes| u8::from(*yes)).collect(),
            Data::Eventfd(fds) => {
                fds.iter().flat_map(|fd| fd.map_or(-1, &mut number).to_ne_bytes()).collect()
            }
        };
        let header = Header {
            argsz: u32::try_from(Header::LEN + data.len()).unwrap_or(u32::MAX),
            flags: self.flags(),
            index: self.index.raw(),
            start: self.start,
            count: self.count(),
        };
        (header, data)
    }
}

/// A device descriptor of the kernel, from a group (`VFIO_GROUP_GET_DEVICE_FD`) or from
/// a character device (`/dev/vfio/devices/vfioN`). Both answer the same requests.
///
/// ```no_run
/// use vfio_irq::{Index, KernelDevice, Vectors};
///
/// // A character device must be bound to an iommufd before it answers.
/// let fd = std::fs::File::options().read(true).write(true).open("/dev/vfio/devices/vfio0")?;
/// let vectors = Vectors::open(KernelDevice::new(fd), Index::Msix)?;
/// println!("{}", vectors.capabilities());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct KernelDevice<F>(F);

impl<F: AsFd> KernelDevice<F> {
    /// Returns a device on an owned, borrowed or shared descriptor.
    pub fn new(fd: F) -> Self {
        Self(fd)
    }

    /// Returns the descriptor, which stays open.
    pub fn into_inner(self) -> F {
        self.0
    }
}

impl<F: AsFd> Transport for KernelDevice<F> {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        crate::sys::get_irq_info(self.0.as_fd(), index.raw())
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        crate::sys::set_irqs(self.0.as_fd(), &request.to_bytes())
    }
}

/// rust-vmm's device, which also sets up the container or the iommufd.
#[cfg(feature = "vfio-ioctls")]
impl Transport for vfio_ioctls::VfioDevice {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        KernelDevice::new(crate::sys::device_fd(self)).irq_info(index)
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        KernelDevice::new(crate::sys::device_fd(self)).set_irqs(request)
    }
}
