// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The two ioctls as bytes, and the checks that come before anything is looked at.
//!
//! ```
//! use vfio_irq_engine::abi::{Action, Data, Header, Index, flags};
//!
//! let fd = 7_i32.to_ne_bytes();
//! let header = Header {
//!     argsz: 24,
//!     flags: flags::DATA_EVENTFD | flags::ACTION_TRIGGER,
//!     index: 2,
//!     start: 5,
//!     count: 1,
//! };
//! let checked = header.check(64)?;
//! assert_eq!(checked.data_len(), 4);
//! let request = checked.request(&fd)?;
//! assert_eq!(request.index(), Index::Msix);
//! assert_eq!(request.action(), Action::Trigger);
//! assert!(matches!(request.data(), Data::Eventfd(fds) if fds.get(0) == Some(7)));
//! # Ok::<(), vfio_irq_engine::Errno>(())
//! ```

use crate::Errno;

/// Flags of `struct vfio_irq_info` and `struct vfio_irq_set`.
pub mod flags {
    /// GET_IRQ_INFO: the index takes eventfds.
    pub const INFO_EVENTFD: u32 = 1;
    /// GET_IRQ_INFO: the index can be masked.
    pub const INFO_MASKABLE: u32 = 2;
    /// GET_IRQ_INFO: a signal masks the index (INTx).
    pub const INFO_AUTOMASKED: u32 = 4;
    /// GET_IRQ_INFO: the vectors are a set; to add one, disable all and enable more.
    pub const INFO_NORESIZE: u32 = 8;

    /// SET_IRQS: no data follows.
    pub const DATA_NONE: u32 = 1;
    /// SET_IRQS: one byte a vector follows.
    pub const DATA_BOOL: u32 = 2;
    /// SET_IRQS: one signed 32-bit descriptor a vector follows.
    pub const DATA_EVENTFD: u32 = 4;
    /// SET_IRQS: mask.
    pub const ACTION_MASK: u32 = 8;
    /// SET_IRQS: unmask.
    pub const ACTION_UNMASK: u32 = 16;
    /// SET_IRQS: attach, detach, disable, loopback.
    pub const ACTION_TRIGGER: u32 = 32;

    pub(super) const DATA: u32 = DATA_NONE | DATA_BOOL | DATA_EVENTFD;
    pub(super) const ACTION: u32 = ACTION_MASK | ACTION_UNMASK | ACTION_TRIGGER;
}

/// The interrupts of a PCI device, as VFIO counts them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Index {
    /// The interrupt line.
    Intx,
    /// Message signalled interrupts.
    Msi,
    /// Message signalled interrupts with a table.
    Msix,
    /// The device met an error that the host will not repair.
    Err,
    /// The host asks for the device back.
    Req,
}

impl Index {
    /// All five, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Intx, Self::Msi, Self::Msix, Self::Err, Self::Req];

    /// The index with this number; `None` from 5 on.
    #[inline]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            0 => Some(Self::Intx),
            1 => Some(Self::Msi),
            2 => Some(Self::Msix),
            3 => Some(Self::Err),
            4 => Some(Self::Req),
            _ => None,
        }
    }

    /// Its number in the ABI.
    pub const fn raw(self) -> u32 {
        match self {
            Self::Intx => 0,
            Self::Msi => 1,
            Self::Msix => 2,
            Self::Err => 3,
            Self::Req => 4,
        }
    }
}

/// The answer to GET_IRQ_INFO, less the fields that user space sent (`CONTRACT.md`, I-03 to I-07).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Info {
    /// `flags::INFO_*`.
    pub flags: u32,
    /// Vectors of the index.
    pub count: u32,
}

/// `struct vfio_irq_info` as user space sent it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InfoHeader {
    /// Size of the caller's structure in bytes.
    pub argsz: u32,
    /// Filled in by the answer.
    pub flags: u32,
    /// Which index is asked about.
    pub index: u32,
    /// Filled in by the answer.
    pub count: u32,
}

impl InfoHeader {
    /// Bytes that are read and written.
    pub const LEN: usize = 16;

    /// Reads the structure, in the machine's byte order.
    #[inline]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let [argsz, flags, index, count] = words(bytes);
        Self { argsz, flags, index, count }
    }

    /// Writes the structure, in the machine's byte order.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        put_words(&mut bytes, [self.argsz, self.flags, self.index, self.count]);
        bytes
    }

    /// Which index is asked about. `EINVAL` when the structure is too short or there is no such
    /// index (`CONTRACT.md`, I-02).
    pub fn check(self) -> Result<Index, Errno> {
        if (self.argsz as usize) < Self::LEN {
            return Err(Errno::EINVAL);
        }
        Index::from_raw(self.index).ok_or(Errno::EINVAL)
    }

    /// The same structure with the answer filled in.
    pub fn answered(self, info: Info) -> Self {
        Self { flags: info.flags, count: info.count, ..self }
    }
}

/// `struct vfio_irq_set` as user space sent it, less its data. Nothing of it is believed yet.
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
    /// `EINVAL` when there is no such index (`CONTRACT.md`, C-02).
    #[inline]
    pub fn index(&self) -> Result<Index, Errno> {
        Index::from_raw(self.index).ok_or(Errno::EINVAL)
    }

    /// Checks all that can be said without the data. `vectors` is the count of the index.
    ///
    /// Everything wrong here is `EINVAL` (`CONTRACT.md`, C-01 to C-08).
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

/// The data of a request, as many elements as its range has vectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Data<'d> {
    /// All vectors of the range alike.
    None,
    /// A yes or no for each.
    Bool(Bools<'d>),
    /// A descriptor for each.
    Eventfd(Fds<'d>),
}

/// A yes or no for each vector of a range.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bools<'d>(&'d [u8]);

impl Bools<'_> {
    /// Whether the `i`-th vector of the range is meant. Any byte but zero is a yes.
    #[inline]
    pub fn get(&self, i: usize) -> bool {
        self.0.get(i).is_some_and(|byte| *byte != 0)
    }
}

/// A descriptor for each vector of a range.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fds<'d>(&'d [u8]);

impl Fds<'_> {
    /// The `i`-th descriptor; `None` past the last.
    #[inline]
    pub fn get(&self, i: usize) -> Option<i32> {
        let at = i.checked_mul(4)?;
        let bytes = self.0.get(at..at.checked_add(4)?)?;
        Some(i32::from_ne_bytes(bytes.try_into().ok()?))
    }
}

#[inline]
fn words<const B: usize, const W: usize>(bytes: &[u8; B]) -> [u32; W] {
    let mut words = [0; W];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        if let Ok(chunk) = chunk.try_into() {
            *word = u32::from_ne_bytes(chunk);
        }
    }
    words
}

fn put_words<const W: usize>(bytes: &mut [u8], words: [u32; W]) {
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
}
