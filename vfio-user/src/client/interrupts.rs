//! The interrupts of a device.

use super::{Client, ClientError, IrqData, IrqInfo};
use crate::wire::Command;
use crate::wire::layout::{len32, put, take};
use std::os::fd::BorrowedFd;
use vfio_irq_engine::abi::{Header as IrqHeader, Index, flags};

impl Client {
    /// Returns the capabilities of an interrupt index (`CONTRACT.md`, I-02 to I-07).
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has ended or the server refuses.
    pub fn irq_info(&self, index: Index) -> Result<IrqInfo, ClientError> {
        let put = |out: &mut Vec<u8>| put(out, &[16, 0, index.raw(), 0]);
        self.channel().call(Command::DeviceGetIrqInfo, put, &[], |mut payload, _| {
            let [_, flags, _, count] = take(&mut payload)?;
            Ok(IrqInfo { flags, count })
        })
    }

    /// Attaches, detaches, masks, unmasks or triggers vectors (`CONTRACT.md`, C to B). `action` is
    /// `ACTION_MASK`, `ACTION_UNMASK` or `ACTION_TRIGGER`.
    ///
    /// # Errors
    ///
    /// Returns the errno of the contract; nothing has changed then. Returns `TooManyFds` if one
    /// message cannot carry all eventfds.
    pub fn set_irqs(
        &self,
        index: Index,
        action: u32,
        start: u32,
        data: IrqData<'_>,
    ) -> Result<(), ClientError> {
        let (form, count, bools, fds): (_, _, &[u8], &[BorrowedFd<'_>]) = match data {
            IrqData::None(count) => (flags::DATA_NONE, count, &[], &[]),
            IrqData::Bool(bools) => (flags::DATA_BOOL, len32(bools.len()), bools, &[]),
            IrqData::Eventfds(fds) => (flags::DATA_EVENTFD, len32(fds.len()), &[], fds),
            IrqData::Detach(count) => (flags::DATA_EVENTFD, count, &[], &[]),
        };
        if fds.len() > self.limits.peer_fds {
            let (most, wanted) = (self.limits.peer_fds, fds.len());
            return Err(ClientError::TooManyFds { most, wanted });
        }
        let argsz = len32(bools.len()).saturating_add(20);
        let header = IrqHeader { argsz, flags: form | action, index: index.raw(), start, count };
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(&header.to_bytes());
            out.extend_from_slice(bools);
        };
        self.channel().call(Command::DeviceSetIrqs, put, fds, |_, _| Ok(()))
    }

    /// Attaches one eventfd per vector, from vector `start`.
    ///
    /// # Errors
    ///
    /// As [`Client::set_irqs`].
    pub fn attach(
        &self,
        index: Index,
        start: u32,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        self.set_irqs(index, flags::ACTION_TRIGGER, start, IrqData::Eventfds(fds))
    }
}
