//! Base address registers and what is behind them.

use crate::wire::Area;
use std::os::fd::OwnedFd;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Memory32,
    Memory64,
    Io,
}

/// A descriptor that is signalled in place of a write.
///
/// ```
/// use std::sync::Arc;
/// use vfio_irq_user::pci::{Bar, Function, IoEventfd};
/// # use rustix::event::{EventfdFlags, eventfd};
///
/// let fd = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
/// // A doorbell that counts if 1 is written to it, in four bytes; other values come as messages.
/// let doorbell = IoEventfd { offset: 0x100, size: 4, datamatch: Some(1), fd: Arc::clone(&fd) };
/// let bar = Bar::memory32(0x1000).io_eventfd(doorbell);
/// // The device keeps `fd`, and waits for it.
/// assert!(Function::builder(0x1234, 1).bar(0, bar).build().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct IoEventfd {
    /// First byte of the BAR that it stands for.
    pub offset: u64,
    /// How many bytes a write must have; 0 for any number.
    pub size: u64,
    /// The value that must be written, if not any.
    pub datamatch: Option<u64>,
    /// The eventfd, which the device waits for.
    pub fd: Arc<OwnedFd>,
}

#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) offset: u64,
    pub(crate) areas: Vec<Area>,
}

/// One base address register.
///
/// ```
/// use vfio_irq_user::pci::{Bar, Function};
///
/// let (registers, ports) = (Bar::memory64(0x4000), Bar::io(16));
/// // A 64-bit one takes two of the six registers.
/// assert!(Function::builder(0x1234, 1).bar(0, registers).bar(2, ports).build().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Bar {
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) prefetchable: bool,
    pub(crate) share: Option<Share>,
    pub(crate) eventfds: Vec<IoEventfd>,
}

impl Bar {
    fn new(kind: Kind, size: u64) -> Self {
        Self { kind, size, prefetchable: false, share: None, eventfds: Vec::new() }
    }

    pub(crate) fn is_io(&self) -> bool {
        self.kind == Kind::Io
    }

    /// Memory with an address of 32 bits. The size is a power of two, 16 at least.
    pub fn memory32(size: u32) -> Self {
        Self::new(Kind::Memory32, size.into())
    }

    /// Memory with an address of 64 bits, which takes the next register, too. The size is a power of
    /// two, 16 at least.
    pub fn memory64(size: u64) -> Self {
        Self::new(Kind::Memory64, size)
    }

    /// I/O ports. The size is a power of two, 4 at least, 256 at most.
    pub fn io(size: u32) -> Self {
        Self::new(Kind::Io, size.into())
    }

    /// Reading it has no side effects.
    pub fn prefetchable(mut self) -> Self {
        self.prefetchable = true;
        self
    }

    /// The client may map it: the file holds the BAR from `offset` on. With `areas`, only those parts
    /// of it; accesses elsewhere are messages.
    pub fn shared(mut self, fd: Arc<OwnedFd>, offset: u64, areas: Vec<Area>) -> Self {
        self.share = Some(Share { fd, offset, areas });
        self
    }

    /// The client may have an eventfd signalled in place of a write: KVM does it without anybody's
    /// help. The device waits for the eventfd, and must take ordinary writes all the same.
    pub fn io_eventfd(mut self, eventfd: IoEventfd) -> Self {
        self.eventfds.push(eventfd);
        self
    }
}
