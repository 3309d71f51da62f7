//! The other side: using a device that somebody emulates.

mod channel;
mod dma;
mod error;
mod info;
mod interrupts;
mod regions;

pub use dma::DmaHandler;
pub use error::ClientError;
pub use info::{IoFd, IoSubRegion, IrqInfo, Region, SharedRegion};
pub use interrupts::IrqData;

use crate::errno;
use crate::transport::Broken;
use crate::wire::{Capabilities, Command, Limits, VERSION};
use channel::Channel;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vfio_irq_engine::Errno;

/// How a client behaves.
///
/// ```
/// use std::time::Duration;
/// use vfio_irq_user::ClientOptions;
///
/// // A processor to spare, and a server that may have to spin disks up.
/// let options =
///     ClientOptions { spin: Duration::from_micros(200), patience: Duration::from_secs(60) };
/// assert!(options.spin > ClientOptions::default().spin);
/// ```
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

/// A connection to an emulated device. May be used by several threads: one message at a time.
///
/// ```
/// # use rustix::event::{EventfdFlags, eventfd};
/// # use std::os::fd::AsFd;
/// use vfio_irq_user::abi::Index;
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
/// client.attach(Index::Msix, 3, &[fd.as_fd()])?;
/// // This device raises the vector whose number is written to 0x40.
/// client.region_write(0, 0x40, &[3])?;
/// let mut signals = [0; 8];
/// rustix::io::read(&fd, &mut signals)?;
/// assert_eq!(u64::from_ne_bytes(signals), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    ///
    /// ```
    /// # use vfio_irq_user::{Broken, Client, ClientError, ClientOptions, Options, Server};
    /// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("device.sock");
    /// # let succession = std::time::Duration::from_millis(1);
    /// let server = Server::start(Options { succession, ..Options::default() })?;
    /// server.add(&path, function, make)?;
    /// let first = Client::connect(&path, ClientOptions::default())?;
    /// // A device has one client at a time: a second one waits for a while, and is refused.
    /// let second = Client::connect(&path, ClientOptions::default());
    /// assert!(matches!(second, Err(ClientError::Broken(Broken::Busy))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use vfio_irq_user::{Broken, Client, ClientError, ClientOptions};
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// drop(theirs); // A server that has gone before it agreed on anything.
    /// let agreed = Client::over(ours.into(), ClientOptions::default());
    /// assert!(matches!(agreed, Err(ClientError::Broken(Broken::Closed | Broken::Socket(_)))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
                // A second socket for the server's commands, which this side has not proposed.
                if theirs.wants_twin() {
                    return Err(errno::EIO);
                }
                Ok((major, minor, theirs.limits(minor)))
            },
        );
        let limits = agreed.map_err(|error| match error {
            // What servers say of a device that has a client.
            ClientError::Refused { errno: Errno::EBUSY, .. } => Broken::Busy.into(),
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
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was agreed on.
    ///
    /// ```
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// let limits = client.limits();
    /// assert_eq!(limits.peer_fds, 253, "eventfds that one SET_IRQS can attach");
    /// assert_eq!(limits.peer_transfer, 1 << 20, "bytes that one access can move");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Sends any payload under any command, and gives back what comes: for tests, and for commands
    /// that this crate does not know.
    ///
    /// # Errors
    ///
    /// When the connection is over, or the server answers with an error.
    ///
    /// ```
    /// use vfio_irq_user::{errno, wire::Command};
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// // Live migration, which these servers do not have.
    /// let refused = client.call(Command::DeviceFeature, &[0; 8], &[]).unwrap_err();
    /// assert_eq!(refused.errno(), Some(errno::EOPNOTSUPP));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// Flags, number of regions and of interrupt indexes (`VFIO_USER_DEVICE_GET_INFO`).
    ///
    /// # Errors
    ///
    /// As every call.
    ///
    /// ```
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// let (flags, regions, indexes) = client.device_info()?;
    /// assert_eq!(flags & 2, 2, "it is a PCI device");
    /// assert_eq!(flags & 1, 1, "it can be reset");
    /// assert_eq!((regions, indexes), (9, 5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn device_info(&self) -> Result<(u32, u32, u32), ClientError> {
        let put = |out: &mut Vec<u8>| info::put_words(out, &[16, 0, 0, 0]);
        self.channel().call(Command::DeviceGetInfo, put, &[], |payload, _| {
            let [_, flags, regions, irqs] = info::words(payload)?;
            Ok((flags, regions, irqs))
        })
    }

    /// Resets the device (`VFIO_USER_DEVICE_RESET`). Attached vectors stay so (`CONTRACT.md`, V-12).
    ///
    /// # Errors
    ///
    /// As every call.
    ///
    /// ```
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// client.region_write(0, 0x10, &[1])?;
    /// client.reset()?;
    /// let mut register = [1];
    /// client.region_read(0, 0x10, &mut register)?;
    /// assert_eq!(register, [0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reset(&self) -> Result<(), ClientError> {
        self.channel().call(Command::DeviceReset, |_| {}, &[], |_, _| Ok(()))
    }
}
