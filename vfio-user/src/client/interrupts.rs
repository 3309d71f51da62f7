//! The interrupts of a device.

use super::{Client, ClientError, IrqInfo, info};
use crate::wire::Command;
use std::os::fd::BorrowedFd;
use vfio_irq_engine::abi::{Header as IrqHeader, Index, flags};

/// What a SET_IRQS brings for the vectors of its range.
///
/// ```
/// use vfio_irq_user::IrqData;
/// use vfio_irq_user::abi::{Index, flags};
/// # use rustix::event::{EventfdFlags, eventfd};
/// # use std::os::fd::AsFd;
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// let fds = [eventfd(0, EventfdFlags::CLOEXEC)?, eventfd(0, EventfdFlags::CLOEXEC)?];
/// client.attach(Index::Msix, 0, &[fds[0].as_fd(), fds[1].as_fd()])?;
/// // Two vectors, of which the second alone is masked.
/// client.set_irqs(Index::Msix, flags::ACTION_MASK, 0, IrqData::Bool(&[0, 1]))?;
/// assert_eq!((bus.interrupts.is_masked(0), bus.interrupts.is_masked(1)), (false, true));
/// client.set_irqs(Index::Msix, flags::ACTION_TRIGGER, 0, IrqData::Detach(1))?;
/// assert_eq!((bus.interrupts.is_attached(0), bus.interrupts.is_attached(1)), (false, true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum IrqData<'a> {
    /// Nothing, for so many vectors.
    None(u32),
    /// A byte each; not zero is yes.
    Bool(&'a [u8]),
    /// An eventfd each.
    Eventfds(&'a [BorrowedFd<'a>]),
    /// No eventfd for so many vectors: they are detached, or disarmed.
    Detach(u32),
}

impl Client {
    /// What an interrupt index can do (`CONTRACT.md`, I-02 to I-07).
    ///
    /// # Errors
    ///
    /// As every call.
    ///
    /// ```
    /// use vfio_irq_user::abi::{Index, flags};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// let msix = client.irq_info(Index::Msix)?;
    /// assert_eq!(msix.count, 8);
    /// // Vectors can be added to those that are enabled, one by one.
    /// assert_eq!(msix.flags & flags::INFO_NORESIZE, 0);
    /// assert_ne!(client.irq_info(Index::Msi)?.flags & flags::INFO_NORESIZE, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn irq_info(&self, index: Index) -> Result<IrqInfo, ClientError> {
        let put = |out: &mut Vec<u8>| info::put_words(out, &[16, 0, index.raw(), 0]);
        self.channel().call(Command::DeviceGetIrqInfo, put, &[], |payload, _| {
            let [_, flags, _, count] = info::words(payload)?;
            Ok(IrqInfo { flags, count })
        })
    }

    /// Attach, detach, mask, unmask, loopback (`CONTRACT.md`, C to B). `action` is one of
    /// `ACTION_MASK`, `ACTION_UNMASK` and `ACTION_TRIGGER`.
    ///
    /// # Errors
    ///
    /// As the rules say, and nothing has changed then; `TooManyFds` when it takes several messages.
    ///
    /// ```
    /// # use rustix::event::{EventfdFlags, eventfd};
    /// # use std::os::fd::AsFd;
    /// use vfio_irq_user::abi::{Index, flags};
    /// use vfio_irq_user::{IrqData, Raised};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
    /// client.attach(Index::Msix, 0, &[fd.as_fd()])?;
    /// client.set_irqs(Index::Msix, flags::ACTION_MASK, 0, IrqData::None(1))?;
    /// assert_eq!(bus.interrupts.raise(0), Raised::Held);
    /// // With no vector at all, the whole index is given back.
    /// client.set_irqs(Index::Msix, flags::ACTION_TRIGGER, 0, IrqData::None(0))?;
    /// assert_eq!(bus.interrupts.raise(0), Raised::Dropped);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_irqs(
        &self,
        index: Index,
        action: u32,
        start: u32,
        data: IrqData<'_>,
    ) -> Result<(), ClientError> {
        let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let (form, count, bools, fds): (_, _, &[u8], &[BorrowedFd<'_>]) = match data {
            IrqData::None(count) => (flags::DATA_NONE, count, &[], &[]),
            IrqData::Bool(bools) => (flags::DATA_BOOL, len(bools.len()), bools, &[]),
            IrqData::Eventfds(fds) => (flags::DATA_EVENTFD, len(fds.len()), &[], fds),
            IrqData::Detach(count) => (flags::DATA_EVENTFD, count, &[], &[]),
        };
        if fds.len() > self.limits.peer_fds {
            let (most, wanted) = (self.limits.peer_fds, fds.len());
            return Err(ClientError::TooManyFds { most, wanted });
        }
        let argsz = len(bools.len()).saturating_add(20);
        let header = IrqHeader { argsz, flags: form | action, index: index.raw(), start, count };
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(&header.to_bytes());
            out.extend_from_slice(bools);
        };
        self.channel().call(Command::DeviceSetIrqs, put, fds, |_, _| Ok(()))
    }

    /// Attaches eventfds from a vector on.
    ///
    /// # Errors
    ///
    /// As [`Client::set_irqs`].
    ///
    /// ```
    /// # use rustix::event::{EventfdFlags, eventfd};
    /// # use std::os::fd::AsFd;
    /// # use vfio_irq_user::{Errno, Raised, abi::Index};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
    /// client.attach(Index::Msix, 5, &[fd.as_fd()])?;
    /// assert_eq!(bus.interrupts.raise(5), Raised::Signalled);
    /// // One vector is beyond the last, so neither is attached.
    /// let error = client.attach(Index::Msix, 7, &[fd.as_fd(), fd.as_fd()]).unwrap_err();
    /// assert_eq!(error.errno(), Some(Errno::EINVAL));
    /// assert!(!bus.interrupts.is_attached(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn attach(
        &self,
        index: Index,
        start: u32,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        self.set_irqs(index, flags::ACTION_TRIGGER, start, IrqData::Eventfds(fds))
    }
}
