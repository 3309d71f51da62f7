// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The layout of the two ioctls, and the checks that need no device state.
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

mod data;
mod set;

pub use data::{Bools, Data, Fds};
pub use set::{Action, Checked, Header, Range, Request};

use crate::Errno;

/// Flags of `struct vfio_irq_info` and `struct vfio_irq_set`.
///
/// ```
/// use vfio_irq_engine::abi::{flags, Action, Header};
///
/// // One form of data and one action, or'ed together.
/// let flags = flags::DATA_NONE | flags::ACTION_MASK;
/// let request = Header::from_words([20, flags, 2, 0, 8]).check(64)?.request(&[])?;
/// assert_eq!(request.action(), Action::Mask);
/// // Two forms of data are invalid.
/// let both = flags::DATA_NONE | flags::DATA_BOOL | flags::ACTION_MASK;
/// assert!(Header::from_words([28, both, 2, 0, 8]).check(64).is_err());
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
pub mod flags {
    /// GET_IRQ_INFO: the index signals eventfds.
    pub const INFO_EVENTFD: u32 = 1;
    /// GET_IRQ_INFO: user space can mask the index.
    pub const INFO_MASKABLE: u32 = 2;
    /// GET_IRQ_INFO: a signal masks the index (INTx).
    pub const INFO_AUTOMASKED: u32 = 4;
    /// GET_IRQ_INFO: the vectors are a set. To add a vector, user space disables the index and
    /// enables it with more.
    pub const INFO_NORESIZE: u32 = 8;

    /// SET_IRQS: no data follows the header.
    pub const DATA_NONE: u32 = 1;
    /// SET_IRQS: one byte for each vector follows the header.
    pub const DATA_BOOL: u32 = 2;
    /// SET_IRQS: one signed 32-bit descriptor for each vector follows the header.
    pub const DATA_EVENTFD: u32 = 4;
    /// SET_IRQS: mask.
    pub const ACTION_MASK: u32 = 8;
    /// SET_IRQS: unmask.
    pub const ACTION_UNMASK: u32 = 16;
    /// SET_IRQS: attach, detach, disable or loopback.
    pub const ACTION_TRIGGER: u32 = 32;

    pub(super) const DATA: u32 = DATA_NONE | DATA_BOOL | DATA_EVENTFD;
    pub(super) const ACTION: u32 = ACTION_MASK | ACTION_UNMASK | ACTION_TRIGGER;
}

/// An interrupt index of a PCI device, as VFIO numbers them.
///
/// ```
/// use vfio_irq_engine::abi::Index;
///
/// let known = Index::ALL.map(Index::raw);
/// assert_eq!(known, [0, 1, 2, 3, 4]);
/// assert!(Index::ALL.iter().all(|index| Index::from_raw(index.raw()) == Some(*index)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Index {
    /// INTx.
    Intx,
    /// MSI.
    Msi,
    /// MSI-X.
    Msix,
    /// An uncorrected error of the device (`VFIO_PCI_ERR_IRQ_INDEX`).
    Err,
    /// A request of the host to release the device (`VFIO_PCI_REQ_IRQ_INDEX`).
    Req,
}

impl Index {
    /// All five indexes, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Intx, Self::Msi, Self::Msix, Self::Err, Self::Req];

    /// Returns the index with this number, or `None` from 5 on.
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

    /// Returns the number of the index in the ABI.
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

/// The answer to GET_IRQ_INFO, without the fields that user space sent (`CONTRACT.md`, I-03 to
/// I-07).
///
/// ```
/// use vfio_irq_engine::abi::flags;
/// use vfio_irq_engine::{sim::Sim, MsiType, Vectors};
///
/// let info = Vectors::info(&Sim::new(), MsiType::Msix);
/// assert_eq!((info.count, info.flags), (64, flags::INFO_EVENTFD | flags::INFO_MASKABLE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Info {
    /// `flags::INFO_*`.
    pub flags: u32,
    /// Number of vectors of the index.
    pub count: u32,
}

/// `struct vfio_irq_info` as user space sent it.
///
/// ```
/// use vfio_irq_engine::abi::{Index, Info, InfoHeader};
///
/// let asked = InfoHeader { argsz: 16, flags: 0, index: 2, count: 0 };
/// assert_eq!(asked.check()?, Index::Msix);
/// let answer = asked.answered(Info { flags: 3, count: 64 });
/// assert_eq!((answer.argsz, answer.index, answer.count), (16, 2, 64));
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InfoHeader {
    /// Size of the caller's structure in bytes.
    pub argsz: u32,
    /// `flags::INFO_*`, set by the answer.
    pub flags: u32,
    /// Number of the index.
    pub index: u32,
    /// Number of vectors, set by the answer.
    pub count: u32,
}

impl InfoHeader {
    /// Bytes that GET_IRQ_INFO reads and writes.
    pub const LEN: usize = 16;

    /// Reads the structure in native byte order. Returns it unchecked.
    #[inline]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let [argsz, flags, index, count] = words(bytes);
        Self { argsz, flags, index, count }
    }

    /// Returns the structure as bytes, in native byte order.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        put_words(&mut bytes, [self.argsz, self.flags, self.index, self.count]);
        bytes
    }

    /// Returns the index of the request.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `argsz` is below 16 or if the index does not exist (`CONTRACT.md`, I-02).
    pub fn check(self) -> Result<Index, Errno> {
        if (self.argsz as usize) < Self::LEN {
            return Err(Errno::EINVAL);
        }
        Index::from_raw(self.index).ok_or(Errno::EINVAL)
    }

    /// Returns the structure with `flags` and `count` of the answer. `argsz` and `index` keep
    /// their values.
    pub fn answered(self, info: Info) -> Self {
        Self { flags: info.flags, count: info.count, ..self }
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
