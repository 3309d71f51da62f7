// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The data behind the header of SET_IRQS.

/// The data of a request, with one element for each vector of its range (`CONTRACT.md`, C-07 and
/// C-08).
///
/// ```
/// use vfio_irq_engine::abi::flags::*;
/// use vfio_irq_engine::abi::{Data, Header};
///
/// let fds = [7_i32, -1].map(i32::to_ne_bytes).concat();
/// let header = Header::from_words([28, DATA_EVENTFD | ACTION_TRIGGER, 2, 0, 2]);
/// let request = header.check(64)?.request(&fds)?;
/// let Data::Eventfd(fds) = request.data() else { panic!("one descriptor each") };
/// // The first vector gets an eventfd, the second one is detached.
/// assert_eq!((fds.get(0), fds.get(1)), (Some(7), Some(-1)));
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Data<'d> {
    /// No data: the request applies to every vector of the range.
    None,
    /// A boolean for each vector.
    Bool(Bools<'d>),
    /// A descriptor for each vector.
    Eventfd(Fds<'d>),
}

impl Data<'_> {
    /// Returns true if a request without descriptors acts on the `i`-th vector of its range.
    #[inline]
    pub(crate) fn selects(&self, i: usize) -> bool {
        match self {
            Self::None => true,
            Self::Bool(bools) => bools.get(i),
            Self::Eventfd(_) => false,
        }
    }
}

/// A boolean for each vector of a range.
///
/// ```
/// use vfio_irq_engine::abi::flags::*;
/// use vfio_irq_engine::abi::{Data, Header};
///
/// let header = Header::from_words([22, DATA_BOOL | ACTION_MASK, 2, 0, 2]);
/// let request = header.check(64)?.request(&[0, 0x80])?;
/// let Data::Bool(bools) = request.data() else { panic!("one byte each") };
/// // Mask the second vector of two.
/// assert!(!bools.get(0) && bools.get(1));
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bools<'d>(pub(super) &'d [u8]);

impl Bools<'_> {
    /// Returns true if the byte of the `i`-th vector of the range is not zero. Past the last
    /// vector, returns false.
    #[inline]
    pub fn get(&self, i: usize) -> bool {
        self.0.get(i).is_some_and(|byte| *byte != 0)
    }
}

/// A descriptor for each vector of a range. -1 detaches.
///
/// ```
/// use vfio_irq_engine::abi::flags::*;
/// use vfio_irq_engine::abi::{Data, Header};
///
/// let header = Header::from_words([24, DATA_EVENTFD | ACTION_TRIGGER, 2, 0, 1]);
/// let request = header.check(64)?;
/// let bytes = 9_i32.to_ne_bytes();
/// // The descriptors are read in place, without a copy.
/// assert!(matches!(request.request(&bytes)?.data(), Data::Eventfd(fds) if fds.get(0) == Some(9)));
/// # Ok::<(), vfio_irq_engine::Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fds<'d>(pub(super) FdSource<'d>);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum FdSource<'d> {
    /// Numbers of descriptors, 4 bytes each.
    Bytes(&'d [u8]),
    /// The positions 0 to before this number, of descriptors that came beside the request.
    Positions(i32),
    /// -1 for each vector.
    Detach,
}

impl Fds<'_> {
    /// Returns the `i`-th descriptor, or `None` past the last.
    #[inline]
    pub fn get(&self, i: usize) -> Option<i32> {
        match self.0 {
            FdSource::Bytes(bytes) => {
                let at = i.checked_mul(4)?;
                let bytes = bytes.get(at..at.checked_add(4)?)?;
                Some(i32::from_ne_bytes(bytes.try_into().ok()?))
            }
            FdSource::Positions(end) => i32::try_from(i).ok().filter(|position| *position < end),
            FdSource::Detach => Some(-1),
        }
    }
}
