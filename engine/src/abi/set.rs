// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! SET_IRQS: from bytes to a request.

use super::{flags, put_words, words, Bools, Data, Fds, Index};
use crate::Errno;

/// `struct vfio_irq_set` as user space sent it, less its data. Nothing of it is believed yet.
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
    /// Size of the caller's structure in bytes, data included.
    pub argsz: u32,
    /// `flags::DATA_*` and `flags::ACTION_*`.
    pub flags: u32,
    /// Which index.
    pub index: u32,
    /// First vector.
    pub start: u32,
    /// Number of vectors.
    pub count: u32,
}

impl Header {
    /// Bytes before the data.
    pub const LEN: usize = 20;

    /// Reads the structure, in the machine's byte order.
    #[inline]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        Self::from_words(words(bytes))
    }

    /// The structure from its five fields in order.
    #[inline]
    pub const fn from_words([argsz, flags, index, start, count]: [u32; 5]) -> Self {
        Self { argsz, flags, index, start, count }
    }

    /// Writes the structure, in the machine's byte order.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        put_words(&mut bytes, [self.argsz, self.flags, self.index, self.start, self.count]);
        bytes
    }

    /// Which index is meant, before all else is checked: a host needs it to know `vectors`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no such index (`CONTRACT.md`, C-02).
    #[inline]
    pub fn index(&self) -> Result<Index, Errno> {
        Index::from_raw(self.index).ok_or(Errno::EINVAL)
    }

    /// Checks all that can be said without the data. `vectors` is the count of the index.
    ///
    /// # Errors
    ///
    /// `EINVAL`, whatever is wrong (`CONTRACT.md`, C-01 to C-08).
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

/// What a request is to do.
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
    /// Attach, detach, disable, loopback.
    Trigger,
}

impl Action {
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

/// The vectors that a request names: within the index, and no overflow left to happen.
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
    /// First vector.
    #[inline]
    pub const fn start(self) -> u32 {
        self.start
    }

    /// One past the last vector.
    #[inline]
    pub const fn end(self) -> u32 {
        self.end
    }

    /// Number of vectors.
    #[inline]
    pub const fn count(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// The vectors' numbers in order.
    #[inline]
    pub fn numbers(self) -> core::ops::Range<u32> {
        self.start..self.end
    }
}

/// A header that passed every check; its data is still to be read.
///
/// ```
/// use vfio_irq_engine::abi::flags::*;
/// use vfio_irq_engine::abi::Header;
/// use vfio_irq_engine::Errno;
///
/// // What a platform does: check, read so much of user space, and only then look at it.
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
    /// How many bytes of data to read.
    #[inline]
    pub const fn data_len(&self) -> usize {
        self.data_len
    }

    /// The request, now that its data is there.
    ///
    /// # Errors
    ///
    /// `ENOTTY` when the flags name no action or several (`CONTRACT.md`, C-10): Linux says so only
    /// after it has read the data, so an unreadable address wins. `EINVAL` when `data` is not
    /// [`Checked::data_len`] long.
    #[inline]
    pub fn request(self, data: &[u8]) -> Result<Request<'_>, Errno> {
        if data.len() != self.data_len {
            return Err(Errno::EINVAL);
        }
        let action = self.action.ok_or(Errno::ENOTTY)?;
        let data = match self.form {
            Form::None => Data::None,
            Form::Bool => Data::Bool(Bools(data)),
            Form::Eventfd => Data::Eventfd(Fds(data)),
        };
        Ok(Request { index: self.index, action, range: self.range, data })
    }
}

/// A request whose every field makes sense by itself. Whether it makes sense *now* is for
/// [`crate::Vectors`] and [`crate::Device`] to say.
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
    /// Which index.
    #[inline]
    pub const fn index(&self) -> Index {
        self.index
    }

    /// What to do.
    #[inline]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Which vectors.
    #[inline]
    pub const fn range(&self) -> Range {
        self.range
    }

    /// With what.
    #[inline]
    pub const fn data(&self) -> Data<'d> {
        self.data
    }
}
