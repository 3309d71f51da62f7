//! Memory that the device may access.

use super::{Client, ClientError, DmaHandler};
use crate::wire::Command;
use crate::wire::layout::{self, put};
use std::os::fd::BorrowedFd;
use std::time::Duration;

impl Client {
    /// Sets the handler of memory that was mapped without a descriptor. The handler runs while a
    /// call waits for its reply, and in [`Client::serve`].
    pub fn set_dma_handler(&self, handler: impl DmaHandler + 'static) {
        self.channel().set_handler(Box::new(handler));
    }

    /// Serves DMA_READ and DMA_WRITE for at most `time`. Returns true if there was one.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has ended.
    pub fn serve(&self, time: Duration) -> Result<bool, ClientError> {
        self.channel().serve(time)
    }

    /// Maps memory for the device (`VFIO_USER_DMA_MAP`): a part of a file, or, without a file,
    /// memory that the [`DmaHandler`] serves. Address and size are in bytes.
    ///
    /// # Errors
    ///
    /// Returns `EEXIST` if the range overlaps a mapping, and `EINVAL` if the file is too short.
    /// Returns `PageSize`, `TooManyMappings` or `TooManyFds` if the request exceeds the negotiated
    /// limits; mappings by [`Client::call`] are not counted.
    pub fn dma_map(
        &self,
        address: u64,
        size: u64,
        file: Option<(BorrowedFd<'_>, u64)>,
    ) -> Result<(), ClientError> {
        self.check_map(address, size, file.is_some())?;
        let offset = file.map_or(0, |(_, offset)| offset);
        let flags = layout::DmaMap::READ | layout::DmaMap::WRITE;
        let map = layout::DmaMap { argsz: 32, flags, offset, address, size };
        let fd = file.map(|(fd, _)| fd);
        let mut channel = self.channel();
        let most = self.limits.peer_dma_maps;
        if channel.mappings.len() >= most as usize {
            return Err(ClientError::TooManyMappings { most });
        }
        channel.call(Command::DmaMap, |out| put(out, &map), fd.as_slice(), |_, _| Ok(()))?;
        channel.mappings.insert(address);
        Ok(())
    }

    fn check_map(&self, address: u64, size: u64, has_fd: bool) -> Result<(), ClientError> {
        let page = self.limits.smallest_page();
        if !address.is_multiple_of(page) || !size.is_multiple_of(page) {
            return Err(ClientError::PageSize { page });
        }
        if has_fd && self.limits.peer_fds == 0 {
            return Err(ClientError::TooManyFds { most: 0, wanted: 1 });
        }
        Ok(())
    }

    /// Unmaps memory (`VFIO_USER_DMA_UNMAP`). The range must equal that of a mapping.
    ///
    /// # Errors
    ///
    /// Returns `ENOENT` if no mapping has this range.
    pub fn dma_unmap(&self, address: u64, size: u64) -> Result<(), ClientError> {
        let unmap = layout::DmaUnmap { argsz: 24, flags: 0, address, size };
        let mut channel = self.channel();
        channel.call(Command::DmaUnmap, |out| put(out, &unmap), &[], |_, _| Ok(()))?;
        channel.mappings.remove(&address);
        Ok(())
    }
}
