//! The two ioctls' structures as bytes. Every sequence of bytes is possible, since a conformance
//! test must send requests that no correct caller sends.

use std::fmt;
use vfio_irq_engine::Errno;
pub use vfio_irq_engine::abi::{Index, InfoHeader as Info};

/// The return value of an ioctl: 0, a positive number, or a negative error number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answer(pub i32);

impl Answer {
    /// Success.
    pub const OK: Self = Self(0);
    /// A descriptor that is not open.
    pub const EBADF: Self = Self(-libc::EBADF);
    /// Memory that cannot be read or written.
    pub const EFAULT: Self = Self(-libc::EFAULT);
    /// The device is being reset.
    pub const EAGAIN: Self = Self(-libc::EAGAIN);
    /// An eventfd is armed already.
    pub const EBUSY: Self = Self(-libc::EBUSY);
    /// The pin has no routed interrupt.
    pub const ENODEV: Self = Self(-libc::ENODEV);
    /// The request is invalid, or invalid in this state.
    pub const EINVAL: Self = Self(-libc::EINVAL);
    /// The index does not have the action.
    pub const ENOTTY: Self = Self(-libc::ENOTTY);
    /// No interrupt is left.
    pub const ENOSPC: Self = Self(-libc::ENOSPC);
    /// An empty set.
    pub const ERANGE: Self = Self(-libc::ERANGE);
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 { Errno::from_raw(self.0).fmt(f) } else { self.0.fmt(f) }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Linux's flags of both structures, by the names of the contract.
pub mod flags {
    pub use vfio_bindings::bindings::vfio::{
        VFIO_IRQ_INFO_AUTOMASKED as AUTOMASKED, VFIO_IRQ_INFO_EVENTFD as EVENTFD,
        VFIO_IRQ_INFO_MASKABLE as MASKABLE, VFIO_IRQ_INFO_NORESIZE as NORESIZE,
        VFIO_IRQ_SET_ACTION_MASK as MASK, VFIO_IRQ_SET_ACTION_TRIGGER as TRIGGER,
        VFIO_IRQ_SET_ACTION_UNMASK as UNMASK, VFIO_IRQ_SET_DATA_BOOL as BOOL,
        VFIO_IRQ_SET_DATA_EVENTFD as FDS, VFIO_IRQ_SET_DATA_NONE as NONE,
    };
}

/// The header of SET_IRQS with the data after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The claimed size of header and data.
    pub argsz: u32,
    /// Action and kind of data.
    pub flags: u32,
    /// The index.
    pub index: u32,
    /// The first vector.
    pub start: u32,
    /// The number of vectors.
    pub count: u32,
    /// The data that is present, whatever `argsz` claims.
    pub data: Vec<u8>,
}

impl Request {
    /// Bytes of the header.
    pub const HEADER: u32 = 20;

    fn new(flags: u32, index: Index, start: u32, count: u32, data: Vec<u8>) -> Self {
        let argsz = u32::try_from(data.len()).unwrap_or(u32::MAX).saturating_add(Self::HEADER);
        Self { argsz, flags, index: index.raw(), start, count, data }
    }

    /// Builds an action on a range with DATA_NONE.
    pub fn none(action: u32, index: Index, start: u32, count: u32) -> Self {
        Self::new(action | flags::NONE, index, start, count, Vec::new())
    }

    /// Builds an action with one byte for each vector.
    pub fn bools(action: u32, index: Index, start: u32, bools: &[u8]) -> Self {
        let count = u32::try_from(bools.len()).unwrap_or(u32::MAX);
        Self::new(action | flags::BOOL, index, start, count, bools.to_vec())
    }

    /// Builds an action with a descriptor for each vector.
    pub fn fds(action: u32, index: Index, start: u32, fds: &[i32]) -> Self {
        let count = u32::try_from(fds.len()).unwrap_or(u32::MAX);
        let data = fds.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
        Self::new(action | flags::FDS, index, start, count, data)
    }

    /// Builds a request that attaches descriptors from `start` on; -1 detaches.
    pub fn attach(index: Index, start: u32, fds: &[i32]) -> Self {
        Self::fds(flags::TRIGGER, index, start, fds)
    }

    /// Builds a request that disables the index.
    pub fn disable(index: Index) -> Self {
        Self::none(flags::TRIGGER, index, 0, 0)
    }

    /// Builds a request that signals a range as if the device had raised it.
    pub fn loopback(index: Index, start: u32, count: u32) -> Self {
        Self::none(flags::TRIGGER, index, start, count)
    }

    /// Builds a request that masks a range.
    pub fn mask(index: Index, start: u32, count: u32) -> Self {
        Self::none(flags::MASK, index, start, count)
    }

    /// Builds a request that unmasks a range.
    pub fn unmask(index: Index, start: u32, count: u32) -> Self {
        Self::none(flags::UNMASK, index, start, count)
    }

    /// Returns the bytes for the ioctl.
    pub fn bytes(&self) -> Vec<u8> {
        [self.argsz, self.flags, self.index, self.start, self.count]
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .chain(self.data.iter().copied())
            .collect()
    }
}

/// Returns the structure that asks GET_IRQ_INFO about an index.
pub fn ask(index: u32) -> Info {
    Info { argsz: 16, flags: 0, index, count: 0 }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Index::from_raw(self.index) {
            Some(index) => write!(f, "{index:?}")?,
            None => write!(f, "index {}", self.index)?,
        }
        let names = [
            (flags::MASK, "mask"),
            (flags::UNMASK, "unmask"),
            (flags::TRIGGER, "trigger"),
            (flags::NONE, "none"),
            (flags::BOOL, "bool"),
            (flags::FDS, "eventfd"),
        ];
        for (_, name) in names.into_iter().filter(|(flag, _)| self.flags & flag != 0) {
            write!(f, " {name}")?;
        }
        let unknown = names.into_iter().fold(self.flags, |rest, (flag, _)| rest & !flag);
        if unknown != 0 {
            write!(f, " flags {unknown:#x}")?;
        }
        write!(f, " start {} count {} argsz {}", self.start, self.count, self.argsz)
    }
}
