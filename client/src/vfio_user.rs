//! A device behind a vfio-user socket.
//!
//! A `VFIO_USER_DEVICE_SET_IRQS` message either attaches all of its vectors or detaches all of
//! them, and carries a limited number of descriptors. A request beyond that becomes several
//! messages. [`crate::Vectors`] makes their sequence all or nothing.

use crate::{Data, SetIrqs};
#[cfg(feature = "vfio-user")]
use crate::{Index, Info, Transport};
use rustix::io::Errno;
use std::io;

/// The client of `vfio-irq-user`.
#[cfg(feature = "vfio-user")]
impl Transport for vfio_irq_user::Client {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        let info = self.irq_info(index)?;
        Ok(Info { flags: info.flags, count: info.count })
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        use vfio_irq_user::IrqData;
        in_messages(request, self.limits().peer_fds, |part| {
            let (bools, fds): (Vec<u8>, Vec<_>) = match part.data {
                Data::None { .. } => (Vec::new(), Vec::new()),
                Data::Bool(bools) => (bools.iter().map(|bool| u8::from(*bool)).collect(), vec![]),
                Data::Eventfd(fds) => (Vec::new(), fds.iter().copied().flatten().collect()),
            };
            let data = match part.data {
                Data::None { count } => IrqData::None(count),
                Data::Bool(_) => IrqData::Bool(&bools),
                Data::Eventfd(_) if fds.is_empty() => IrqData::Detach(part.count()),
                Data::Eventfd(_) => IrqData::Eventfds(&fds),
            };
            self.set_irqs(part.index, part.action.flag(), part.start, data)?;
            Ok(0)
        })
    }
}

/// Sends a request as the messages of vfio-user, for a VMM with a client of its own. Calls `send`
/// for each message. A message has an eventfd for all of its vectors, at most `max_fds` of them
/// (`max_msg_fds`), or for none. Returns what [`crate::Transport::set_irqs`]
/// returns.
///
/// ```
/// use vfio_irq::{Index, Info, SetIrqs, Transport, Trigger, Vectors, in_messages};
/// use std::io;
///
/// /// The client of a VMM.
/// struct Socket;
///
/// impl Transport for Socket {
///     fn irq_info(&self, _: Index) -> io::Result<Info> {
///         Ok(Info { flags: 1, count: 64 }) // VFIO_USER_DEVICE_GET_IRQ_INFO
///     }
///
///     fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
///         in_messages(request, 8, |message| {
///             assert!(message.count() <= 8);
///             Ok(0) // VFIO_USER_DEVICE_SET_IRQS
///         })
///     }
/// }
///
/// let vectors = Vectors::open(Socket, Index::Msix)?;
/// let many: Result<Vec<_>, _> = (0..20).map(|n| Ok((n, Trigger::new()?))).collect();
/// let handles = vectors.enable_many(many?)?;
/// # Ok::<(), vfio_irq::Error>(())
/// ```
///
/// # Errors
///
/// The error of `send`. The messages before it have taken effect. ENOSPC if a message after the
/// first returns a positive value.
pub fn in_messages(
    request: &SetIrqs<'_>,
    max_fds: usize,
    mut send: impl FnMut(&SetIrqs<'_>) -> io::Result<u32>,
) -> io::Result<u32> {
    let fds = match request.data {
        Data::Eventfd(fds) if !fds.is_empty() => fds,
        _ => return send(request),
    };
    let mut start = request.start;
    for alike in fds.chunk_by(|a, b| a.is_some() == b.is_some()) {
        let attaches = alike.first().is_some_and(Option::is_some);
        let most = if attaches { max_fds.max(1) } else { usize::MAX };
        for part in alike.chunks(most) {
            let message = SetIrqs { start, data: Data::Eventfd(part), ..*request };
            match send(&message)? {
                0 => start = start.saturating_add(message.count()),
                // A positive value means that nothing changed. Only the first message can return
                // it.
                few if start == request.start => return Ok(few),
                _ => return Err(Errno::NOSPC.into()),
            }
        }
    }
    Ok(0)
}
