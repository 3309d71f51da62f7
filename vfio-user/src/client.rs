//! The client: uses a device that a server emulates.

mod channel;
mod dma;
mod error;
mod info;
mod interrupts;
mod regions;

pub use channel::{ClientOptions, DmaHandler};
pub use error::ClientError;
pub use info::{IoFd, IoSubRegion, IrqData, IrqInfo, Region, SharedRegion};

use crate::errno;
use crate::transport::ConnectionError;
use crate::wire::layout::{put, take};
use crate::wire::{Capabilities, Command, Limits, VERSION};
use channel::Channel;
use parking_lot::{Mutex, MutexGuard};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use vfio_irq_engine::Errno;

/// A connection to an emulated device. Several threads may share it; calls run one at a time.
///
/// ```no_run
/// use rustix::event::{EventfdFlags, eventfd};
/// use std::os::fd::AsFd;
/// use vfio_irq_user::{Client, ClientOptions, abi::Index};
///
/// let client = Client::connect("/run/doorbell.sock", ClientOptions::default())?;
/// let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
/// client.attach(Index::Msix, 3, &[fd.as_fd()])?;
/// client.region_write(0, 0, &[3])?;
/// rustix::io::read(&fd, &mut [0; 8])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client {
    channel: Mutex<Channel>,
    limits: Limits,
}

impl Client {
    /// Connects to a server and negotiates a version. Returns the client.
    ///
    /// # Errors
    ///
    /// Returns [`ClientError::Connect`] if no server listens, and an error if the versions differ.
    pub fn connect(path: impl AsRef<Path>, options: ClientOptions) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let socket = std::os::unix::net::UnixStream::connect(path)
            .map_err(|source| ClientError::Connect { path: path.to_owned(), source })?;
        Self::over(socket.into(), options)
    }

    /// Negotiates a version over a connected socket. Sets a receive timeout on the socket.
    ///
    /// # Errors
    ///
    /// Returns an error if the server does not reply, or has another version.
    pub fn over(socket: OwnedFd, options: ClientOptions) -> Result<Self, ClientError> {
        let mut channel = Channel::new(socket, options);
        let ours = Capabilities::ours(channel::TRANSFER, u32::from(u16::MAX));
        let agreed = channel.call(
            Command::Version,
            |out| ours.put(VERSION, out),
            &[],
            |payload, _| {
                let (major, minor, theirs) = info::version(payload)?;
                theirs.check()?;
                // A second socket for the server's commands, which this client has not proposed.
                if theirs.wants_twin() {
                    return Err(errno::EIO);
                }
                Ok((major, minor, theirs.limits(minor)))
            },
        );
        let limits = agreed.map_err(|error| match error {
            // Servers refuse a second client with EBUSY.
            ClientError::Refused { errno: Errno::EBUSY, .. } => ConnectionError::Busy.into(),
            error => error,
        })?;
        match limits {
            (major, minor, limits) if major == VERSION.0 && minor <= VERSION.1 => {
                Ok(Self { channel: Mutex::new(channel), limits })
            }
            (major, minor, _) => Err(ClientError::Version(major, minor)),
        }
    }

    fn channel(&self) -> MutexGuard<'_, Channel> {
        self.channel.lock()
    }

    /// Returns the negotiated limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Sends a command and returns the payload of the reply. Use this for tests and for commands
    /// that this crate does not know.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has ended, or the server's reply is an error.
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

    /// Returns the flags, the number of regions and the number of interrupt indexes
    /// (`VFIO_USER_DEVICE_GET_INFO`).
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has ended or the server refuses.
    pub fn device_info(&self) -> Result<(u32, u32, u32), ClientError> {
        let put = |out: &mut Vec<u8>| put(out, &[16_u32, 0, 0, 0]);
        self.channel().call(Command::DeviceGetInfo, put, &[], |mut payload, _| {
            let [_, flags, regions, irqs]: [u32; 4] = take(&mut payload)?;
            Ok((flags, regions, irqs))
        })
    }

    /// Resets the device (`VFIO_USER_DEVICE_RESET`). Attached eventfds stay attached
    /// (`CONTRACT.md`, V-12).
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has ended or the server refuses.
    pub fn reset(&self) -> Result<(), ClientError> {
        self.channel().call(Command::DeviceReset, |_| {}, &[], |_, _| Ok(()))
    }
}
