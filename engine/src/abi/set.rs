// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! SET_IRQS: from bytes to a request.

use super::data::FdSource;
use super::{flags, put_words, words, Bools, Data, Fds, Index};
use crate::Errno;

/// `struct vfio_irq_set` as user space sent it, without the data. No field is checked yet.
///
/// ```
/// use vfio_irq_engine::abi::{flags, Header};
///
/// // "Unmask vectors 4 and 5 of MSI-X."
/// let flags = flags::DATA_NONE | flags::ACTION_UNMASK;
/// let header = Header { argsz: Header::LEN as u32, flags, index: 2, start: 4, count: 2 };
/// assert_eq!(header.check(64)?.data_len(), 0);
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Size of the caller's structure in bytes, including the data.
    pub argsz: u32,
    /// `flags::DATA_*` and `flags::ACTION_*`.
    pub flags: u32,
    /// Number of the index.
    pub index: u32,
    /// First vector.
    pub start: u32,
    /// Number of vectors.
    pub count: u32,
}

impl Header {
    /// Length of the header in bytes.
    pub const LEN: usize = 20;

    /// Reads the structure in native byte order. Returns it unchecked.
    #[inline]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        Self::from_words(words(bytes))
    }

    /// Returns the structure with these five fields, in the order of the ABI.
    #[inline]
    pub const fn from_words([argsz, flags, index, start, count]: [u32; 5]) -> Self {
        Self { argsz, flags, index, start, count }
    }

    /// Returns the structure as bytes, in native byte order.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        put_words(&mut bytes, [self.argsz, self.flags, self.index, self.start, self.count]);
        bytes
    }

    /// Returns the index. A host calls this first, since [`Header::check`] takes the number of
    /// vectors of that index.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the index does not exist (`CONTRACT.md`, C-02).
    #[inline]
    pub fn index(&self) -> Result<Index, Errno> {
        Index::from_raw(self.index).ok_or(Errno::EINVAL)
    }

    /// Checks the header against `vectors`, the number of vectors of the index. Returns the
    /// checked header, whose data is still to be read.
    ///
    /// # Errors
    ///
    /// `EINVAL` if any check fails (`CONTRACT.md`, C-01 to C-08).
    #[inline]
    pub fn check(self, vectors: u32) -> Result<Checked, Errno> {
        let index = self.index()?;
        let room = (self.argsz as usize).checked_sub(Self::LEN).ok_or(Errno::EINVAL)?;
        if self.flags & !(flags::DATA | flags::ACTION) != 0 {
            return Err(Errno::EINVAL);
        }
        let end = self.start.checked_add(self.count).ok_or(Errno::EINVAL)?;
        if self.start >= vectors || end > vectors {
            return Err(Errno::EINVAL);
        }
        let (form, size) = match self.flags & flags::DATA {
            flags::DATA_NONE => (Form::None, 0),
            flags::DATA_BOOL => (Form::Bool, 1),
            flags::DATA_EVENTFD => (Form::Eventfd, 4),
            _ => return Err(Errno::EINVAL),
        };
        let data_len = (self.count as usize).checked_mul(size).ok_or(Errno::EINVAL)?;
        if room < data_len {
            return Err(Errno::EINVAL);
        }
        Ok(Checked {
            index,
            action: Action::from_flags(self.flags),
            range: Range { start: self.start, end },
            form,
            data_len,
        })
    }
}

/// The action of a request.
///
/// ```
/// use vfio_irq_engine::abi::{flags, Action, Header};
///
/// let mask = Header::from_words([20, flags::DATA_NONE | flags::ACTION_MASK, 2, 0, 1]);
/// assert_eq!(mask.check(1)?.request(&[])?.action(), Action::Mask);
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Mask.
    Mask,
    /// Unmask.
    Unmask,
    /// Attach, detach, disable or loopback. The data tells them apart.
    Trigger,
}

impl Action {
    /// Returns the `flags::ACTION_*` of the action.
    pub const fn flag(self) -> u32 {
        match self {
            Self::Mask => flags::ACTION_MASK,
            Self::Unmask => flags::ACTION_UNMASK,
            Self::Trigger => flags::ACTION_TRIGGER,
        }
    }

    #[inline]
    const fn from_flags(bits: u32) -> Option<Self> {
        match bits & flags::ACTION {
            flags::ACTION_MASK => Some(Self::Mask),
            flags::ACTION_UNMASK => Some(Self::Unmask),
            flags::ACTION_TRIGGER => Some(Self::Trigger),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Form {
    None,
    Bool,
    Eventfd,
}

/// The vectors of a request. All are within the index, so that sums of their numbers do not
/// overflow.
///
/// ```
/// use vfio_irq_engine::abi::flags::*;
/// use vfio_irq_engine::abi::Header;
///
/// let header = Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 2, 10, 3]);
/// let range = header.check(64)?.request(&[])?.range();
/// assert_eq!(range.numbers().collect::<Vec<_>>(), [10, 11, 12]);
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    start: u32,
    end: u32,
}

impl Range {
    /// Returns the first vector.
    #[inline]
    pub const fn start(self) -> u32 {
        self.start
    }

    /// Returns the number after the last vector.
    #[inline]
    pub const fn end(self) -> u32 {
        self.end
    }

    /// Returns the number of vectors.
    #[inline]
    pub const fn count(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Returns the numbers of the vectors, in order.
    #[inline]
    pub fn numbers(self) -> core::ops::Range<u32> {
        self.start..self.end
    }
}

/// A header that passed every check. Its data is still to be read.
///
/// ```
/// use vfio_irq_engine::abi::flags::*;
/// use vfio_irq_engine::abi::Header;
/// use vfio_irq_engine::Errno;
///
/// // A platform checks the header, reads the data once, and then parses its copy (TOCTOU).
/// let header = Header::from_words([28, DATA_EVENTFD | ACTION_TRIGGER, 2, 0, 2]);
/// let checked = header.check(64)?;
/// let read = vec![0xff; checked.data_len()];
/// assert!(checked.request(&read).is_ok());
/// assert_eq!(checked.request(&read[1..]), Err(Errno::EINVAL));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Checked {
    index: Index,
    action: Option<Action>,
    range: Range,
    form: Form,
    data_len: usize,
}

impl Checked {
    /// Returns the number of data bytes to read.
    #[inline]
    pub const fn data_len(&self) -> usize {
        self.data_len
    }

    /// Returns the request that the header and `data` make.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `data` is not [`Checked::data_len`] bytes long. `ENOTTY` if the flags name no
    /// action or several (`CONTRACT.md`, C-10). Linux reads the data before it checks the action.
    /// An unreadable address therefore returns EFAULT, not ENOTTY.
    #[inline]
    pub fn request(self, data: &[u8]) -> Result<Request<'_>, Errno> {
        if data.len() != self.data_len {
            return Err(Errno::EINVAL);
        }
        self.with_data(match self.form {
            Form::None => Data::None,
            Form::Bool => Data::Bool(Bools(data)),
            Form::Eventfd => Data::Eventfd(Fds(FdSource::Bytes(data))),
        })
    }

    /// Returns the request of a message that carries `fds` descriptors beside its bytes
    /// (SCM_RIGHTS). The descriptor at position n of the message is the number n, for the n-th
    /// vector of the range. A message without descriptors detaches each vector of its range.
    /// [`crate::Host::resolve`] gets the positions.
    ///
    /// ```
    /// use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::abi::{Data, Header};
    /// use vfio_irq_engine::Errno;
    ///
    /// let checked = Header::from_words([32, DATA_EVENTFD | ACTION_TRIGGER, 2, 8, 3]).check(64)?;
    /// let Data::Eventfd(fds) = checked.request_by_position(3)?.data() else { unreachable!() };
    /// assert_eq!([0, 1, 2, 3].map(|i| fds.get(i)), [Some(0), Some(1), Some(2), None]);
    /// let Data::Eventfd(none) = checked.request_by_position(0)?.data() else { unreachable!() };
    /// assert_eq!(none.get(2), Some(-1));
    /// assert_eq!(checked.request_by_position(2).unwrap_err(), Errno::EINVAL);
    /// # Ok::<(), Errno>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `EINVAL` if the header does not ask for descriptors, or `fds` is neither 0 nor the number
    /// of vectors. `ENOTTY` as in [`Checked::request`].
    pub fn request_by_position(self, fds: usize) -> Result<Request<'static>, Errno> {
        if self.form != Form::Eventfd || (fds != 0 && fds != self.range.count() as usize) {
            return Err(Errno::EINVAL);
        }
        let positions = i32::try_from(fds).map_err(|_| Errno::EINVAL)?;
        let fds = if fds == 0 { FdSource::Detach } else { FdSource::Positions(positions) };
        self.with_data(Data::Eventfd(Fds(fds)))
    }

    #[inline]
    fn with_data(self, data: Data<'_>) -> Result<Request<'_>, Errno> {
        let action = self.action.ok_or(Errno::ENOTTY)?;
        Ok(Request { index: self.index, action, range: self.range, data })
    }
}

/// A request whose every field is valid by itself. [`crate::Vectors`] and [`crate::IrqEngine`]
/// check it against the state of the device.
///
/// ```
/// use vfio_irq_engine::abi::flags::*;
/// use vfio_irq_engine::abi::{Action, Data, Header, Index};
///
/// let header = Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 2, 0, 0]);
/// let request = header.check(64)?.request(&[])?;
/// // "Disable MSI-X."
/// assert_eq!((request.index(), request.action()), (Index::Msix, Action::Trigger));
/// assert_eq!((request.range().count(), request.data()), (0, Data::None));
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request<'d> {
    index: Index,
    action: Action,
    range: Range,
    data: Data<'d>,
}

impl<'d> Request<'d> {
    /// Returns the index.
    #[inline]
    pub const fn index(&self) -> Index {
        self.index
    }

    /// Returns the action.
    #[inline]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Returns the range of vectors.
    #[inline]
    pub const fn range(&self) -> Range {
        self.range
    }

    /// Returns the data.
    #[inline]
    pub const fn data(&self) -> Data<'d> {
        self.data
    }
}
