//! The other side: using a device that somebody emulates.

mod channel;
mod info;

pub use info::{IrqInfo, Region, SharedRegion};

use crate::errno;
use crate::transport::Broken;
use crate::wire::{Access, Capabilities, Command, Limits, VERSION};
use channel::Channel;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vfio_irq_engine::Errno;
use vfio_irq_engine::abi::{Header as IrqHeader, Index, flags};

/// How a client behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientOptions {
    /// How long to look for a reply before sleeping.
    pub spin: Duration,
    /// How long a reply may take.
    pub patience: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { spin: Duration::from_micros(20), patience: Duration::from_secs(10) }
    }
}

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("cannot connect to {path}: {source}")]
    Connect {
        /// Where.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection is of no more use.
    #[error("the connection is over: {0}")]
    Broken(#[from] Broken),
    /// The server answered with an error; nothing else is wrong.
    #[error("the server refused {command:?}: {errno}")]
    Refused {
        /// What was asked.
        command: Command,
        /// Its answer.
        errno: Errno,
    },
    /// The server answered with what makes no sense.
    #[error("the server's answer to {0:?} makes no sense")]
    Senseless(Command),
    /// The server speaks another version.
    #[error("the server speaks version {0}.{1}")]
    Version(u16, u16),
    /// A message takes no more.
    #[error("the server takes {most} descriptors in one message, not {wanted}")]
    TooManyFds {
        /// How many it takes.
        most: usize,
        /// How many there are.
        wanted: usize,
    },
    /// A message takes no more.
    #[error("the server takes {most} bytes in one message, not {wanted}")]
    TooLong {
        /// How many it takes.
        most: usize,
        /// How many there are.
        wanted: usize,
    },
}

impl ClientError {
    /// The error that the server answered with, if that is what it is.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// The error number that the server answered with, where that is what it is.
impl From<ClientError> for std::io::Error {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused { errno, .. } => Self::from_raw_os_error(errno.raw()),
            ClientError::Connect { source, .. } => source,
            ClientError::Broken(Broken::Silent) => Self::new(std::io::ErrorKind::TimedOut, error),
            ClientError::Broken(_) => Self::new(std::io::ErrorKind::BrokenPipe, error),
            _ => Self::other(error),
        }
    }
}

/// Serves a device's accesses to memory that was mapped without a descriptor.
pub trait DmaHandler: Send {
    /// The device reads.
    ///
    /// # Errors
    ///
    /// Go to the server.
    fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// The device writes.
    ///
    /// # Errors
    ///
    /// Go to the server.
    fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno>;
}

/// What a SET_IRQS brings for the vectors of its range.
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

/// A connection to an emulated device. May be used by several threads: one message at a time.
pub struct Client {
    channel: Mutex<Channel>,
    limits: Limits,
}

impl Client {
    /// Connects and agrees on a version.
    ///
    /// # Errors
    ///
    /// When nobody listens, or speaks another version.
    pub fn connect(path: impl AsRef<Path>, options: ClientOptions) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let socket = std::os::unix::net::UnixStream::connect(path)
            .map_err(|source| ClientError::Connect { path: path.to_owned(), source })?;
        Self::over(socket.into(), options)
    }

    /// Agrees on a version over a socket that is connected. Its reads get a time limit, for all that
    /// share it.
    ///
    /// # Errors
    ///
    /// When the peer speaks another version, or none.
    pub fn over(socket: OwnedFd, options: ClientOptions) -> Result<Self, ClientError> {
        let mut channel = Channel::new(socket, options);
        let ours = Capabilities::ours(crate::wire::DEFAULT_TRANSFER, u32::from(u16::MAX));
        let limits = channel.call(
            Command::Version,
            |out| ours.put(VERSION, out),
            &[],
            |payload, _| {
                let (major, minor, theirs) = info::version(payload)?;
                Ok((major, minor, theirs.limits(minor)))
            },
        )?;
        match limits {
            (major, minor, limits) if major == VERSION.0 && minor <= VERSION.1 => {
                Ok(Self { channel: Mutex::new(channel), limits })
            }
            (major, minor, _) => Err(ClientError::Version(major, minor)),
        }
    }

    fn channel(&self) -> MutexGuard<'_, Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was agreed on.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Who serves memory that was mapped without a descriptor. It is served while a call waits for
    /// its reply, and by [`Client::serve`].
    pub fn set_dma_handler(&self, handler: impl DmaHandler + 'static) {
        self.channel().set_handler(Box::new(handler));
    }

    /// Serves what the device asks for, for so long at most; whether it asked for anything.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub fn serve(&self, time: Duration) -> Result<bool, ClientError> {
        self.channel().serve(time)
    }

    /// Sends any payload under any command, and gives back what comes: for tests, and for commands
    /// that this crate does not know.
    ///
    /// # Errors
    ///
    /// When the connection is over, or the server answers with an error.
    pub fn call(
        &self,
        command: Command,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), ClientError> {
        self.channel().call(
            command,
            |out| out.extend_from_slice(payload),
            fds,
            |payload, fds| Ok((payload.to_vec(), std::mem::take(fds))),
        )
    }

    /// Flags, number of regions and of interrupt indexes.
    ///
    /// # Errors
    ///
    /// As every call.
    pub fn device_info(&self) -> Result<(u32, u32, u32), ClientError> {
        let put = |out: &mut Vec<u8>| info::put_words(out, &[16, 0, 0, 0]);
        self.channel().call(Command::DeviceGetInfo, put, &[], |payload, _| {
            let [_, flags, regions, irqs] = info::words(payload)?;
            Ok((flags, regions, irqs))
        })
    }

    /// A region, with what of it can be mapped.
    ///
    /// # Errors
    ///
    /// `EINVAL` from the server when there is no such region; as every call.
    pub fn region(&self, index: u32) -> Result<Region, ClientError> {
        let mut room = 32;
        loop {
            let put = |out: &mut Vec<u8>| info::put_words(out, &[room, 0, index, 0, 0, 0, 0, 0]);
            let (needed, region) =
                self.channel().call(Command::DeviceGetRegionInfo, put, &[], info::region)?;
            if needed <= room {
                return Ok(region);
            }
            if needed > 64 << 10 || room > 32 {
                return Err(ClientError::Senseless(Command::DeviceGetRegionInfo));
            }
            room = needed;
        }
    }

    /// What an interrupt index can do (`CONTRACT.md`, I-02 to I-07).
    ///
    /// # Errors
    ///
    /// As every call.
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
    pub fn attach(
        &self,
        index: Index,
        start: u32,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        self.set_irqs(index, flags::ACTION_TRIGGER, start, IrqData::Eventfds(fds))
    }

    /// Reads a region.
    ///
    /// # Errors
    ///
    /// What the device answers; as every call.
    pub fn region_read(
        &self,
        region: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), ClientError> {
        let access = self.access(region, offset, data.len())?;
        let put = |out: &mut Vec<u8>| info::put_access(out, &access);
        self.channel().call(Command::RegionRead, put, &[], |payload, _| {
            let bytes = payload.get(Access::LEN..).filter(|bytes| bytes.len() == data.len());
            data.copy_from_slice(bytes.ok_or(errno::EIO)?);
            Ok(())
        })
    }

    /// Writes a region.
    ///
    /// # Errors
    ///
    /// What the device answers; as every call.
    pub fn region_write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let access = self.access(region, offset, data.len())?;
        let put = |out: &mut Vec<u8>| {
            info::put_access(out, &access);
            out.extend_from_slice(data);
        };
        self.channel().call(Command::RegionWrite, put, &[], |_, _| Ok(()))
    }

    /// Writes a region without waiting for it to be done; errors are not told.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub fn region_post(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let access = self.access(region, offset, data.len())?;
        self.channel().post(Command::RegionWrite, |out| {
            info::put_access(out, &access);
            out.extend_from_slice(data);
        })
    }

    fn access(&self, region: u32, offset: u64, len: usize) -> Result<Access, ClientError> {
        let most = self.limits.peer_transfer;
        let count = u32::try_from(len).ok().filter(|count| *count <= most);
        let count = count.ok_or(ClientError::TooLong { most: most as usize, wanted: len })?;
        Ok(Access { offset, region, count })
    }

    /// Does many writes of at most 8 bytes in one message, each a region, an offset and data; how many
    /// were done.
    ///
    /// # Errors
    ///
    /// `EINVAL` when one is longer; what the device answers to the first; as every call.
    pub fn region_write_multi(&self, writes: &[(u32, u64, &[u8])]) -> Result<u64, ClientError> {
        let put = |out: &mut Vec<u8>| info::put_writes(out, writes);
        self.channel().call(Command::RegionWriteMulti, put, &[], |payload, _| {
            payload.first_chunk().map(|done| u64::from_ne_bytes(*done)).ok_or(errno::EIO)
        })
    }

    /// Lets the device reach memory at an address: a part of a file, or (without one) memory that a
    /// [`DmaHandler`] serves.
    ///
    /// # Errors
    ///
    /// `EEXIST` when it overlaps what is mapped, `EINVAL` when the file is shorter; as every call.
    pub fn dma_map(
        &self,
        address: u64,
        size: u64,
        file: Option<(BorrowedFd<'_>, u64)>,
    ) -> Result<(), ClientError> {
        let offset = file.map_or(0, |(_, offset)| offset);
        let put = |out: &mut Vec<u8>| {
            info::put_words(out, &[32, 3]);
            info::put_longs(out, &[offset, address, size]);
        };
        let fd = file.map(|(fd, _)| fd);
        self.channel().call(Command::DmaMap, put, fd.as_slice(), |_, _| Ok(()))
    }

    /// Takes memory away again, exactly as it was mapped.
    ///
    /// # Errors
    ///
    /// `ENOENT` when it was not; as every call.
    pub fn dma_unmap(&self, address: u64, size: u64) -> Result<(), ClientError> {
        let put = |out: &mut Vec<u8>| {
            info::put_words(out, &[24, 0]);
            info::put_longs(out, &[address, size]);
        };
        self.channel().call(Command::DmaUnmap, put, &[], |_, _| Ok(()))
    }

    /// Resets the device.
    ///
    /// # Errors
    ///
    /// As every call.
    pub fn reset(&self) -> Result<(), ClientError> {
        self.channel().call(Command::DeviceReset, |_| {}, &[], |_, _| Ok(()))
    }

    /// Eventfds that stand for writes to a region: where, how many bytes, and the eventfd.
    ///
    /// # Errors
    ///
    /// As every call.
    pub fn io_eventfds(&self, region: u32) -> Result<Vec<(u64, u64, OwnedFd)>, ClientError> {
        let put = |out: &mut Vec<u8>| info::put_words(out, &[1 << 20, 0, region, 0]);
        self.channel().call(Command::DeviceGetRegionIoFds, put, &[], |payload, fds| {
            info::io_eventfds(payload, fds)
        })
    }
}
