// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Error numbers, and the reasons for which a request is refused.

use core::fmt;

/// An error number of the kernel's ABI, from 1 to 4095.
///
/// ```
/// use vfio_irq_engine::Errno;
///
/// assert_eq!(Errno::EINVAL.raw(), 22);
/// assert_eq!(Errno::ENOSPC.to_string(), "ENOSPC");
/// // Other error numbers of a platform pass through.
/// assert_eq!(Errno::from_raw(110).to_string(), "errno 110");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// No such device or address.
    pub const ENXIO: Self = Self(6);
    /// The descriptor is not open.
    pub const EBADF: Self = Self(9);
    /// Out of memory.
    pub const ENOMEM: Self = Self(12);
    /// The kernel cannot read or write the address that user space passed.
    pub const EFAULT: Self = Self(14);
    /// An eventfd is armed already, or the interrupt is in use.
    pub const EBUSY: Self = Self(16);
    /// The device has no routed interrupt.
    pub const ENODEV: Self = Self(19);
    /// The request is invalid, or invalid in the current state of the device.
    pub const EINVAL: Self = Self(22);
    /// The index does not support the action.
    pub const ENOTTY: Self = Self(25);
    /// The host has no interrupt left.
    pub const ENOSPC: Self = Self(28);
    /// The request enables an index with no vectors.
    pub const ERANGE: Self = Self(34);

    /// Returns the error with this number, which may have either sign. If `raw` is not an error
    /// number, returns `EINVAL`. A platform therefore cannot turn a refusal into a success.
    pub const fn from_raw(raw: i32) -> Self {
        match raw {
            1..=4095 => Self(raw),
            -4095..=-1 => Self(raw.wrapping_neg()),
            _ => Self::EINVAL,
        }
    }

    /// Returns the positive number.
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

/// The reason for which a request was refused. A refused request has changed nothing.
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
    /// An error number.
    Errno(Errno),
    /// The host has this many vectors, fewer than the request needs. Linux returns that number as
    /// a *positive* value (`CONTRACT.md`, V-06), which is not a success.
    TooFew(u32),
}

impl core::error::Error for Errno {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => errno.fmt(f),
            Self::TooFew(available) => write!(f, "too few vectors: there are {available}"),
        }
    }
}

impl core::error::Error for Refusal {}

impl Refusal {
    /// Returns the return value of the ioctl: `-errno`, or the positive number of vectors that
    /// the host has.
    pub fn to_return(self) -> i32 {
        match self {
            Self::Errno(errno) => errno.raw().wrapping_neg(),
            // A return value of 0 would be a success.
            Self::TooFew(0) => Errno::ENOSPC.raw().wrapping_neg(),
            Self::TooFew(available) => i32::try_from(available).unwrap_or(i32::MAX),
        }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}
