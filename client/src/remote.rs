//! A device behind a vfio-user socket.

use crate::{Data, Index, Info, SetIrqs, Transport};
use std::io;
use std::os::fd::BorrowedFd;
use vfio_irq_engine::abi::flags;
use vfio_irq_user::{Client, IrqData};

/// One `VFIO_USER_DEVICE_SET_IRQS` message.
///
/// ```
/// use vfio_irq::Message;
///
/// /// The payload of the message. A socket sends `fds` as SCM_RIGHTS.
/// fn payload(message: &Message<'_>) -> Vec<u8> {
///     let argsz = 20 + message.bools.len() as u32;
///     let words = [argsz, message.flags, message.index, message.start, message.count];
///     words.iter().flat_map(|word| word.to_ne_bytes()).chain(message.bools.to_vec()).collect()
/// }
/// let disable = Message { flags: 1 | 32, index: 2, start: 0, count: 0, bools: &[], fds: &[] };
/// assert_eq!(payload(&disable).len(), 20);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The `flags` of the message, `VFIO_IRQ_SET_*`.
    pub flags: u32,
    /// Number of the index.
    pub index: u32,
    /// The first vector.
    pub start: u32,
    /// Number of vectors.
    pub count: u32,
    /// One byte for each vector, or empty.
    pub bools: &'a [u8],
    /// One descriptor for each vector, or empty. DATA_EVENTFD without descriptors detaches.
    pub fds: &'a [BorrowedFd<'a>],
}

/// The interrupt requests of a vfio-user client.
///
/// ```
/// use std::io;
/// use vfio_irq::{Capabilities, Index, Info, IrqSocket, Message, Remote};
///
/// /// A connection that the server closed.
/// struct Gone;
///
/// impl IrqSocket for Gone {
///     fn max_fds(&self) -> usize { 16 }
///     fn get_irq_info(&self, _: u32) -> io::Result<Info> { Err(io::ErrorKind::BrokenPipe.into()) }
///     fn set_irqs(&self, _: &Message<'_>) -> io::Result<u32> { Err(io::ErrorKind::BrokenPipe.into()) }
/// }
/// let error = Capabilities::of(&Remote::new(Gone), Index::Msix).unwrap_err();
/// assert_eq!(error.to_string(), "to say what it has of MSI-X was refused: broken pipe");
/// ```
pub trait IrqSocket {
    /// Returns the number of descriptors that a message can carry (`max_msg_fds`).
    fn max_fds(&self) -> usize;

    /// Sends `VFIO_USER_DEVICE_GET_IRQ_INFO`. Returns the flags and the number of vectors of the
    /// reply.
    ///
    /// # Errors
    ///
    /// The error of the connection, or the error of the reply.
    fn get_irq_info(&self, index: u32) -> io::Result<Info>;

    /// Sends `VFIO_USER_DEVICE_SET_IRQS`. Returns 0 if the server executed it. A positive value
    /// is the number of vectors of the server, which has changed nothing then.
    ///
    /// # Errors
    ///
    /// The error of the connection, or the error of the reply.
    fn set_irqs(&self, message: &Message<'_>) -> io::Result<u32>;
}

/// The client of `vfio-irq-user`.
impl IrqSocket for Client {
    fn max_fds(&self) -> usize {
        self.limits().peer_fds
    }

    fn get_irq_info(&self, index: u32) -> io::Result<Info> {
        let index = Index::from_raw(index).ok_or(io::ErrorKind::InvalidInput)?;
        let info = self.irq_info(index)?;
        Ok(Info { flags: info.flags, count: info.count })
    }

    fn set_irqs(&self, message: &Message<'_>) -> io::Result<u32> {
        let Message { flags: all, index, start, count, bools, fds } = *message;
        let index = Index::from_raw(index).ok_or(io::ErrorKind::InvalidInput)?;
        const DATA: u32 = flags::DATA_NONE | flags::DATA_BOOL | flags::DATA_EVENTFD;
        let data = match all & DATA {
            flags::DATA_BOOL => IrqData::Bool(bools),
            flags::DATA_EVENTFD if fds.is_empty() => IrqData::Detach(count),
            flags::DATA_EVENTFD => IrqData::Eventfds(fds),
            _ => IrqData::None(count),
        };
        let action = all & !DATA;
        Client::set_irqs(self, index, action, start, data)?;
        Ok(0)
    }
}

/// A device behind a vfio-user socket.
///
/// A vfio-user message either attaches all of its vectors or detaches all of them, and carries a
/// limited number of descriptors. A request beyond that becomes several messages.
/// [`crate::Vectors`] makes their sequence all or nothing.
///
/// ```
/// use vfio_irq::{Index, Info, IrqSocket, Message, Remote, Trigger, Vectors};
/// use std::io;
///
/// struct Socket;
///
/// impl IrqSocket for Socket {
///     fn max_fds(&self) -> usize {
///         8
///     }
///     fn get_irq_info(&self, _: u32) -> io::Result<Info> {
///         Ok(Info { flags: 1, count: 64 }) // send, receive
///     }
///     fn set_irqs(&self, message: &Message<'_>) -> io::Result<u32> {
///         assert!(message.fds.len() <= 8); // send, receive
///         Ok(0)
///     }
/// }
///
/// let vectors = Vectors::open(Remote::new(Socket), Index::Msix)?;
/// let many: Result<Vec<_>, _> = (0..20).map(|n| Ok((n, Trigger::new()?))).collect();
/// let handles = vectors.enable_many(many?)?;
/// # Ok::<(), vfio_irq::Error>(())
/// ```
#[derive(Debug)]
pub struct Remote<S>(S);

impl<S: IrqSocket> Remote<S> {
    /// Returns the device behind this socket.
    pub fn new(socket: S) -> Self {
        Self(socket)
    }

    /// Returns the socket.
    pub fn socket(&self) -> &S {
        &self.0
    }

    fn attach(&self, request: &SetIrqs<'_>, fds: &[Option<BorrowedFd<'_>>]) -> io::Result<u32> {
        let flags = request.flags();
        let index = request.index.raw();
        let mut start = request.start;
        for alike in fds.chunk_by(|a, b| a.is_some() == b.is_some()) {
            let most =
                if alike.iter().any(Option::is_some) { self.0.max_fds() } else { usize::MAX };
            for part in alike.chunks(most.max(1)) {
                let there: Vec<_> = part.iter().copied().flatten().collect();
                let count = u32::try_from(part.len()).unwrap_or(u32::MAX);
                let message = Message { flags, index, start, count, bools: &[], fds: &there };
                match self.0.set_irqs(&message)? {
                    0 => start = start.saturating_add(count),
                    // A positive value means that nothing changed. Only the first message can
                    // return it.
                    few if start == request.start => return Ok(few),
                    _ => return Err(io::Error::from_raw_os_error(ENOSPC)),
                }
            }
        }
        Ok(0)
    }
}

const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();

impl<S: IrqSocket> Transport for Remote<S> {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        self.0.get_irq_info(index.raw())
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        let bools: Vec<u8> = match request.data {
            Data::Eventfd(fds) if !fds.is_empty() => return self.attach(request, fds),
            Data::Bool(bools) => bools.iter().map(|yes| u8::from(*yes)).collect(),
            Data::None { .. } | Data::Eventfd(_) => Vec::new(),
        };
        self.0.set_irqs(&Message {
            flags: request.flags(),
            index: request.index.raw(),
            start: request.start,
            count: request.count(),
            bools: &bools,
            fds: &[],
        })
    }
}
