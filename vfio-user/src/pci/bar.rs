//! Base address registers, and the memory behind them.

use crate::wire::Area;
use std::os::fd::OwnedFd;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Memory32,
    Memory64,
    Io,
}

/// An ioeventfd: a write to the BAR signals it.
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
    /// The offset in the BAR.
    pub offset: u64,
    /// The size of a write; 0 matches any size.
    pub size: u64,
    /// The matching value, if not any.
    pub datamatch: Option<u64>,
    /// The eventfd, which the device polls.
    pub fd: Arc<OwnedFd>,
}

#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) offset: u64,
    pub(crate) areas: Vec<Area>,
}

/// A base address register (BAR).
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

    /// Creates a 32-bit memory BAR. The size is a power of two, at least 16.
    pub fn memory32(size: u32) -> Self {
        Self::new(Kind::Memory32, size.into())
    }

    /// Creates a 64-bit memory BAR, which occupies the next register as well. The size is a power
    /// of two, at least 16.
    pub fn memory64(size: u64) -> Self {
        Self::new(Kind::Memory64, size)
    }

    /// Creates an I/O BAR. The size is a power of two, 4 to 256.
    pub fn io(size: u32) -> Self {
        Self::new(Kind::Io, size.into())
    }

    /// Sets Prefetchable: reads have no side effects.
    pub fn prefetchable(mut self) -> Self {
        self.prefetchable = true;
        self
    }

    /// Lets the client map the BAR: the file holds the BAR from `offset`. With `areas`, only these
    /// areas are mappable; other accesses are messages.
    pub fn shared(mut self, fd: Arc<OwnedFd>, offset: u64, areas: Vec<Area>) -> Self {
        self.share = Some(Share { fd, offset, areas });
        self
    }

    /// Offers the client an ioeventfd, so that KVM signals the device without the VMM. The device
    /// must handle ordinary writes as well.
    pub fn io_eventfd(mut self, eventfd: IoEventfd) -> Self {
        self.eventfds.push(eventfd);
        self
    }
}
