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
    ///
    /// ```
    /// use vfio_irq_engine::abi::Header;
    ///
    /// // Twenty bytes of anything are a header; `check` says what they are worth.
    /// let header = Header::from_bytes(&[0xff; 20]);
    /// assert_eq!(header.count, u32::MAX);
    /// assert!(header.check(2048).is_err());
    /// ```
    #[inline]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        Self::from_words(words(bytes))
    }

    /// The structure from its five fields in order.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::abi::Header;
    ///
    /// let header = Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 2, 0, 0]);
    /// assert_eq!((header.argsz, header.flags, header.index), (20, 33, 2));
    /// ```
    #[inline]
    pub const fn from_words([argsz, flags, index, start, count]: [u32; 5]) -> Self {
        Self { argsz, flags, index, start, count }
    }

    /// Writes the structure, in the machine's byte order.
    ///
    /// ```
    /// use vfio_irq_engine::abi::Header;
    ///
    /// let header = Header { argsz: 24, flags: 36, index: 2, start: 5, count: 1 };
    /// assert_eq!(Header::from_bytes(&header.to_bytes()), header);
    /// ```
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
    ///
    /// ```
    /// use vfio_irq_engine::abi::{Header, Index};
    /// use vfio_irq_engine::Errno;
    ///
    /// let header = Header { argsz: 0, flags: 0, index: 0, start: 9, count: 9 };
    /// // Whatever is wrong with the rest.
    /// assert_eq!(header.index(), Ok(Index::Intx));
    /// assert_eq!(Header { index: 77, ..header }.index(), Err(Errno::EINVAL));
    /// ```
    #[inline]
    pub fn index(&self) -> Result<Index, Errno> {
        Index::from_raw(self.index).ok_or(Errno::EINVAL)
    }

    /// Checks all that can be said without the data. `vectors` is the count of the index.
    ///
    /// # Errors
    ///
    /// `EINVAL`, whatever is wrong (`CONTRACT.md`, C-01 to C-08).
    ///
    /// ```
    /// use vfio_irq_engine::abi::{flags, Header};
    /// use vfio_irq_engine::Errno;
    ///
    /// let flags = flags::DATA_EVENTFD | flags::ACTION_TRIGGER;
    /// let header = Header { argsz: 28, flags, index: 2, start: 62, count: 2 };
    /// assert_eq!(header.check(64)?.data_len(), 8);
    /// assert_eq!(header.check(63), Err(Errno::EINVAL), "vector 63 is beyond the last");
    /// assert_eq!(Header { argsz: 27, ..header }.check(64), Err(Errno::EINVAL), "no room for two");
    /// # Ok::<(), Errno>(())
    /// ```
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
/// # use vfio_irq_engine::abi::flags::*;
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
    ///
    /// ```
    /// # use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::abi::Header;
    ///
    /// // Of no vectors at all, too.
    /// let header = Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 2, 7, 0]);
    /// let range = header.check(64)?.request(&[])?.range();
    /// assert_eq!((range.start(), range.count()), (7, 0));
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    #[inline]
    pub const fn start(self) -> u32 {
        self.start
    }

    /// One past the last vector.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::abi::Header;
    ///
    /// let header = Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 2, 60, 4]);
    /// let range = header.check(64)?.request(&[])?.range();
    /// assert_eq!(range.end(), 64, "no more than the index has");
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    #[inline]
    pub const fn end(self) -> u32 {
        self.end
    }

    /// Number of vectors.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::abi::Header;
    ///
    /// let header = Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 2, 60, 4]);
    /// let range = header.check(64)?.request(&[])?.range();
    /// assert_eq!(range.count(), range.end() - range.start());
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    #[inline]
    pub const fn count(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// The vectors' numbers in order.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::abi::{Data, Header};
    ///
    /// let header = Header::from_words([23, DATA_BOOL | ACTION_TRIGGER, 2, 4, 3]);
    /// let request = header.check(64)?.request(&[1, 0, 1])?;
    /// let Data::Bool(bools) = request.data() else { panic!("a byte each") };
    /// let chosen = request.range().numbers().enumerate().filter(|(i, _)| bools.get(*i));
    /// assert_eq!(chosen.map(|(_, number)| number).collect::<Vec<_>>(), [4, 6]);
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    #[inline]
    pub fn numbers(self) -> core::ops::Range<u32> {
        self.start..self.end
    }
}

/// A header that passed every check; its data is still to be read.
///
/// ```
/// # use vfio_irq_engine::abi::flags::*;
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
    ///
    /// ```
    /// use vfio_irq_engine::abi::{flags, Header};
    ///
    /// let forms = [(flags::DATA_NONE, 0), (flags::DATA_BOOL, 10), (flags::DATA_EVENTFD, 40)];
    /// for (form, bytes) in forms {
    ///     let header = Header::from_words([60, form | flags::ACTION_TRIGGER, 2, 0, 10]);
    ///     assert_eq!(header.check(64)?.data_len(), bytes);
    /// }
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
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
    ///
    /// ```
    /// use vfio_irq_engine::abi::{flags, Header};
    /// use vfio_irq_engine::Errno;
    ///
    /// // Everything of it is in order, but that it says not what to do.
    /// let checked = Header::from_words([20, flags::DATA_NONE, 2, 0, 1]).check(64)?;
    /// assert_eq!(checked.request(&[]), Err(Errno::ENOTTY));
    /// # Ok::<(), Errno>(())
    /// ```
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
/// # use vfio_irq_engine::abi::flags::*;
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
    ///
    /// ```
    /// # use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::abi::{Header, Index};
    ///
    /// let header = Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 4, 0, 1]);
    /// let request = header.check(1)?.request(&[])?;
    /// assert_eq!(request.index(), Index::Req);
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    #[inline]
    pub const fn index(&self) -> Index {
        self.index
    }

    /// What to do.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::abi::{Action, Header};
    ///
    /// // Loopback is a trigger, too: the data makes the difference.
    /// let header = Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 2, 0, 1]);
    /// let request = header.check(64)?.request(&[])?;
    /// assert_eq!(request.action(), Action::Trigger);
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    #[inline]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Which vectors.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::abi::Header;
    ///
    /// let header = Header::from_words([20, DATA_NONE | ACTION_TRIGGER, 2, 8, 2]);
    /// let request = header.check(64)?.request(&[])?;
    /// assert_eq!(request.range().numbers(), 8..10);
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    #[inline]
    pub const fn range(&self) -> Range {
        self.range
    }

    /// With what.
    ///
    /// ```
    /// # use vfio_irq_engine::abi::flags::*;
    /// use vfio_irq_engine::abi::{Data, Header};
    ///
    /// let header = Header::from_words([21, DATA_BOOL | ACTION_TRIGGER, 2, 0, 1]);
    /// let request = header.check(64)?.request(&[1])?;
    /// assert!(matches!(request.data(), Data::Bool(bools) if bools.get(0)));
    /// # Ok::<(), vfio_irq_engine::Errno>(())
    /// ```
    #[inline]
    pub const fn data(&self) -> Data<'d> {
        self.data
    }
}
