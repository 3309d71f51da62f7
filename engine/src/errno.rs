// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How a request is refused.

use core::fmt;

/// An error number of the kernel's ABI. Always positive and below 4096.
///
/// ```
/// use vfio_irq_engine::Errno;
///
/// assert_eq!(Errno::EINVAL.raw(), 22);
/// assert_eq!(Errno::ENOSPC.to_string(), "ENOSPC");
/// // A platform may have others to tell, and they go through.
/// assert_eq!(Errno::from_raw(110).to_string(), "errno 110");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// No such device or address.
    pub const ENXIO: Self = Self(6);
    /// Not a descriptor that is open.
    pub const EBADF: Self = Self(9);
    /// No memory.
    pub const ENOMEM: Self = Self(12);
    /// The address given by user space cannot be read or written.
    pub const EFAULT: Self = Self(14);
    /// Armed or taken already.
    pub const EBUSY: Self = Self(16);
    /// The device has no such interrupt.
    pub const ENODEV: Self = Self(19);
    /// The request makes no sense, or not now.
    pub const EINVAL: Self = Self(22);
    /// The index has no such action.
    pub const ENOTTY: Self = Self(25);
    /// The platform has no interrupt left.
    pub const ENOSPC: Self = Self(28);
    /// A set of no vectors at all.
    pub const ERANGE: Self = Self(34);

    /// An error number as a platform gives it, of either sign. A number that is no error number at
    /// all becomes `EINVAL`, so that no platform can turn a refusal into a success.
    pub const fn from_raw(raw: i32) -> Self {
        match raw {
            1..=4095 => Self(raw),
            -4095..=-1 => Self(raw.wrapping_neg()),
            _ => Self::EINVAL,
        }
    }

    /// The positive number.
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::ENXIO => "ENXIO",
            Self::EBADF => "EBADF",
            Self::ENOMEM => "ENOMEM",
            Self::EFAULT => "EFAULT",
            Self::EBUSY => "EBUSY",
            Self::ENODEV => "ENODEV",
            Self::EINVAL => "EINVAL",
            Self::ENOTTY => "ENOTTY",
            Self::ENOSPC => "ENOSPC",
            Self::ERANGE => "ERANGE",
            Self(raw) => return write!(f, "errno {raw}"),
        };
        f.write_str(name)
    }
}

/// Why a request was not carried out. Whatever it is, nothing has changed.
///
/// ```
/// use vfio_irq_engine::sim::{IrqCaps, Sim};
/// use vfio_irq_engine::{Errno, Host, MsiType, Refusal};
///
/// let mut sim = Sim::with(IrqCaps { interrupts: 3, ..IrqCaps::default() });
/// assert_eq!(sim.enable(MsiType::Msix, 4), Err(Refusal::TooFew(3)));
/// sim.set_interrupts(0);
/// assert_eq!(sim.enable(MsiType::Msix, 4), Err(Refusal::Errno(Errno::ENOSPC)));
/// assert_eq!(Refusal::TooFew(3).to_string(), "too few vectors: there are 3");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// An error.
    Errno(Errno),
    /// The platform has this many vectors and not as many as were asked for. Linux says so with a
    /// *positive* return value (`CONTRACT.md`, V-06), which is not a success.
    TooFew(u32),
}

impl core::error::Error for Errno {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => errno.fmt(f),
            Self::TooFew(there) => write!(f, "too few vectors: there are {there}"),
        }
    }
}

impl core::error::Error for Refusal {}

impl Refusal {
    /// What the ioctl returns: `-errno`, or the positive number of vectors that there are.
    pub fn to_return(self) -> i32 {
        match self {
            Self::Errno(errno) => errno.raw().wrapping_neg(),
            // Zero vectors would read as success; having none is ENOSPC.
            Self::TooFew(0) => Errno::ENOSPC.raw().wrapping_neg(),
            Self::TooFew(there) => i32::try_from(there).unwrap_or(i32::MAX),
        }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}
