//! vfio-user: one process emulates a PCI device, and another uses it over a UNIX socket. The
//! protocol is that of the
//! [specification](https://www.qemu.org/docs/master/interop/vfio-user.html), version 0.1.
//!
//! - To emulate a device, implement [`Device`] and add it to a [`Server`]. The server handles
//!   interrupts, configuration space, the memory of the client, and protocol errors.
//! - To use an emulated device, connect a [`Client`].
//! - For other uses, [`wire`] has the messages without I/O, and [`Session`] is the state machine of
//!   a client without a socket.
//!
//! # Interrupts
//!
//! `vfio-irq-engine` implements the interrupt requests, and `CONTRACT.md` lists the rules. The
//! protocol cannot carry these parts of the contract:
//!
//! - Descriptors are ancillary data, so none can be -1. One SET_IRQS attaches an eventfd to each
//!   vector of its range, or, without descriptors, detaches all. All-or-nothing (B-01) holds per
//!   message.
//! - One message carries at most `max_msg_fds` descriptors (253 or fewer). A longer range takes
//!   several messages, and the server accepts or refuses each.
//! - There are no user addresses, so there is no EFAULT (I-01, C-09). A message of the wrong length
//!   gets EINVAL.
//! - A descriptor of an anonymous inode that can be written, such as a VFIO device, counts as an
//!   eventfd (V-10). The client harms only itself.
//! - There is no positive return (V-06). It is not needed: an emulated device has all its vectors.
//!
//! # Where servers differ
//!
//! Each client sees the device after reset. The specification says that a device should keep its
//! state when its client disconnects; libvfio-user resets it as well.
//!
//! This server accepts what libvfio-user accepts, unless the specification forbids it:
//!
//! | request | taken |
//! |---|---|
//! | any but REGION_WRITE, REGION_WRITE_MULTI and SET_IRQS | a longer payload than the specification's; the rest is ignored |
//! | DEVICE_RESET | a payload, which is ignored |
//! | any with fields that must be zero | other values, except in flags |
//! | DMA_MAP | a file offset that is no multiple of a page |
//! | DMA_MAP, DMA_UNMAP | a range that ends at 2^64 |
//! | SET_IRQS, NONE with count 0 | an index that is idle already, where `CONTRACT.md` has EINVAL (V-03, X-03, E-04) |
//! | REGION_WRITE_MULTI | without `write_multiple` among the client's capabilities |
//!
//! It refuses requests that libvfio-user accepts in these cases:
//!
//! | request | refused |
//! |---|---|
//! | DMA_MAP | what is mapped already, the same mapping included: EEXIST, as the specification says |
//! | DMA_MAP | flags that the specification does not have: EINVAL |
//! | DMA_UNMAP | a request for the dirty bitmap: EINVAL |
//! | any | more descriptors than the command has: EINVAL |
//!
//! A client need not answer DMA_READ and DMA_WRITE before its own command is answered.
//! [`Memory::quiesce`] explains the consequence for a device.
//!
//! # In a sandbox
//!
//! For a seccomp filter: besides sockets, eventfds, `poll`, `epoll`, `futex` and file mappings, a
//! server uses `fcntl`, `fstat` and `kcmp`. A filter may refuse `fcntl` and `kcmp` with an error.

mod client;
mod device;
pub mod errno;
mod irq;
mod link;
mod memory;
pub mod pci;
mod server;
mod session;
mod sys;
mod transport;
pub mod wire;

pub use client::{
    Client, ClientError, ClientOptions, DmaHandler, IoFd, IoSubRegion, IrqData, IrqInfo, Region,
    SharedRegion,
};
pub use device::{Bus, Device, Endpoint};
pub use irq::{Interrupts, Raised, VectorCounts};
pub use memory::{Memory, Quiesced};
pub use server::{Options, Server, ServerError, Stopper};
pub use session::{Flow, Grants, Session};
pub use transport::ConnectionError;
pub use vfio_irq_engine::Errno;
pub use vfio_irq_engine::abi;
