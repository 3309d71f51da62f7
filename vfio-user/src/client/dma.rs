//! Memory that the device may reach.

use super::{Client, ClientError, info};
use crate::wire::Command;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use vfio_irq_engine::Errno;

/// Serves a device's accesses to memory that was mapped without a descriptor.
///
/// ```
/// use vfio_irq_user::{DmaHandler, Errno};
///
/// struct Zeroes; // Memory that no file holds, and that nobody may write.
///
/// impl DmaHandler for Zeroes {
///     fn read(&mut self, _address: u64, data: &mut [u8]) -> Result<(), Errno> {
///         Ok(data.fill(0))
///     }
///     fn write(&mut self, _address: u64, _data: &[u8]) -> Result<(), Errno> {
///         Err(vfio_irq_user::errno::EACCES)
///     }
/// }
/// # let mut word = [1; 4];
/// # assert_eq!(Zeroes.read(0, &mut word), Ok(()));
/// # assert_eq!(word, [0; 4]);
/// ```
pub trait DmaHandler: Send {
    /// The device reads.
    ///
    /// # Errors
    ///
    /// Go to the server.
    ///
    /// ```
    /// # use vfio_irq_user::{DmaHandler, Errno};
    /// # struct Ones;
    /// # impl DmaHandler for Ones {
    /// #     fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Errno> { Ok(()) }
    /// fn read(&mut self, _address: u64, data: &mut [u8]) -> Result<(), Errno> {
    ///     data.fill(0xff); // All of it, or an error: the device gets the whole buffer.
    ///     Ok(())
    /// }
    /// # }
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// client.set_dma_handler(Ones);
    /// client.dma_map(0x1000, 0x1000, None)?;
    /// let reading = std::thread::spawn(move || {
    ///     let mut word = [0; 4];
    ///     bus.memory.read(0x1ffc, &mut word).map(|()| word)
    /// });
    /// while !reading.is_finished() {
    ///     client.serve(std::time::Duration::from_millis(1))?;
    /// }
    /// assert_eq!(reading.join().expect("no panic"), Ok([0xff; 4]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// The device writes.
    ///
    /// # Errors
    ///
    /// Go to the server.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use vfio_irq_user::{DmaHandler, Errno};
    /// # struct Log(mpsc::Sender<(u64, Vec<u8>)>);
    /// # impl DmaHandler for Log {
    /// #     fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), Errno> { Ok(()) }
    /// fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno> {
    ///     // What is answered here is what the device's own `Memory::write` returns.
    ///     self.0.send((address, data.to_vec())).map_err(|_| vfio_irq_user::errno::EIO)
    /// }
    /// # }
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # let (log, written) = mpsc::channel();
    /// client.set_dma_handler(Log(log));
    /// client.dma_map(0x1000, 0x1000, None)?;
    /// let writing = std::thread::spawn(move || bus.memory.write(0x1800, b"done"));
    /// # while !writing.is_finished() {
    /// #     client.serve(std::time::Duration::from_millis(1))?;
    /// # }
    /// assert_eq!(writing.join().expect("no panic"), Ok(()));
    /// assert_eq!(written.recv()?, (0x1800, b"done".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno>;
}

impl Client {
    /// Who serves memory that was mapped without a descriptor. It is served while a call waits for
    /// its reply, and by [`Client::serve`].
    ///
    /// ```
    /// # use vfio_irq_user::{DmaHandler, Errno, errno};
    /// # struct Nothing;
    /// # impl DmaHandler for Nothing {
    /// #     fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), Errno> { Err(errno::EIO) }
    /// #     fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Errno> { Ok(()) }
    /// # }
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// client.set_dma_handler(Nothing); // Before the device may ask.
    /// client.dma_map(0, 0x1000, None)?;
    /// // The device asks in a thread of its own; any call here serves it on the way.
    /// let asking = std::thread::spawn(move || bus.memory.load(0));
    /// while !asking.is_finished() {
    ///     client.device_info()?;
    /// }
    /// assert_eq!(asking.join().expect("no panic"), Err(errno::EIO));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_dma_handler(&self, handler: impl DmaHandler + 'static) {
        self.channel().set_handler(Box::new(handler));
    }

    /// Serves what the device asks for, for so long at most; whether it asked for anything.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    ///
    /// ```
    /// use std::time::Duration;
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// // The device reaches for nothing, so the time passes.
    /// assert!(!client.serve(Duration::from_millis(1))?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn serve(&self, time: Duration) -> Result<bool, ClientError> {
        self.channel().serve(time)
    }

    /// Lets the device reach memory at an address (`VFIO_USER_DMA_MAP`; address and size in bytes): a part of a file, or (without one) memory that a
    /// [`DmaHandler`] serves.
    ///
    /// # Errors
    ///
    /// `EEXIST` when it overlaps what is mapped, `EINVAL` when the file is shorter; as every call.
    /// `PageSize`, `TooManyMappings` and `TooManyFds` when it is against what the server has said that it
    /// can do. Mappings that are made with [`Client::call`] are not counted.
    ///
    /// ```
    /// # use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    /// # use std::os::{fd::AsFd, unix::fs::FileExt};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// let file = std::fs::File::from(memfd_create("guest", MemfdFlags::CLOEXEC)?);
    /// ftruncate(&file, 0x20_0000)?;
    /// // The guest's memory from 1 GiB on is the second MiB of the file.
    /// client.dma_map(1 << 30, 0x10_0000, Some((file.as_fd(), 0x10_0000)))?;
    /// assert_eq!(bus.memory.write(1 << 30, b"from the device"), Ok(()));
    /// let mut there = [0; 15];
    /// file.read_exact_at(&mut there, 0x10_0000)?;
    /// assert_eq!(&there, b"from the device");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dma_map(
        &self,
        address: u64,
        size: u64,
        file: Option<(BorrowedFd<'_>, u64)>,
    ) -> Result<(), ClientError> {
        self.check_map(address, size, file.is_some())?;
        let offset = file.map_or(0, |(_, offset)| offset);
        let put = |out: &mut Vec<u8>| {
            info::put_words(out, &[32, 3]);
            info::put_longs(out, &[offset, address, size]);
        };
        let fd = file.map(|(fd, _)| fd);
        let mut channel = self.channel();
        let most = self.limits.peer_dma_maps;
        if channel.mappings.len() >= most as usize {
            return Err(ClientError::TooManyMappings { most });
        }
        channel.call(Command::DmaMap, put, fd.as_slice(), |_, _| Ok(()))?;
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

    /// Takes memory away again (`VFIO_USER_DMA_UNMAP`), exactly as it was mapped.
    ///
    /// # Errors
    ///
    /// `ENOENT` when it was not; as every call.
    ///
    /// ```
    /// # use vfio_irq_user::{Errno, errno};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// client.dma_map(0x1000, 0x3000, None)?;
    /// // All of it or nothing of it.
    /// let part = client.dma_unmap(0x1000, 0x1000).unwrap_err();
    /// assert_eq!(part.errno(), Some(errno::ENOENT));
    /// client.dma_unmap(0x1000, 0x3000)?;
    /// assert!(!bus.memory.covers(0x1000, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dma_unmap(&self, address: u64, size: u64) -> Result<(), ClientError> {
        let put = |out: &mut Vec<u8>| {
            info::put_words(out, &[24, 0]);
            info::put_longs(out, &[address, size]);
        };
        let mut channel = self.channel();
        channel.call(Command::DmaUnmap, put, &[], |_, _| Ok(()))?;
        channel.mappings.remove(&address);
        Ok(())
    }
}
