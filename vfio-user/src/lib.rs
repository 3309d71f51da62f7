//! vfio-user: a PCI device in one process, its user in another, a socket between them. The protocol is
//! that of the [specification](https://www.qemu.org/docs/master/interop/vfio-user.html), version 0.1.
//!
//! - To emulate a device, implement [`Device`] and hand it to a [`Server`]. Interrupts, configuration
//!   space, the client's memory and its misbehaviour are taken care of.
//! - To use a device that somebody emulates, [`Client`] speaks the other side.
//! - To do something else with the protocol, [`wire`] has its messages without I/O, and [`Session`] is
//!   a whole conversation without a socket.
//!
//! # Interrupts
//!
//! What a client's requests about interrupts mean is `vfio-irq-engine`'s to say, and `CONTRACT.md`
//! lists it rule by rule. What the protocol cannot carry of it:
//!
//! - Descriptors are beside the message, so there is no -1 among them: one SET_IRQS attaches to each
//!   vector of its range, or (with none) detaches all. The engine's all-or-nothing (B-01) holds for
//!   each message.
//! - One message carries as many descriptors as the server has said (`max_msg_fds`; at most 253), so a
//!   longer range takes several messages, each of which is carried out or refused by itself.
//! - There are no addresses, so no EFAULT (I-01, C-09): a message of the wrong length is EINVAL.
//! - There is no positive answer (V-06). It does not come up: an emulated device has all its vectors.
//!
//! # Where servers differ
//!
//! Each client finds the device as after a reset. The specification says that a device should keep its
//! state when its client disconnects; libvfio-user resets it as well.
//!
//! This server takes what libvfio-user takes, unless the specification forbids it:
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
//! It refuses what libvfio-user takes in these cases:
//!
//! | request | refused |
//! |---|---|
//! | DMA_MAP | what is mapped already, the same mapping included: EEXIST, as the specification says |
//! | DMA_MAP | flags that the specification does not have: EINVAL |
//! | DMA_UNMAP | a request for the dirty bitmap: EINVAL |
//! | any | more descriptors than the command has: EINVAL |
//!
//! A client need not answer the server's DMA_READ and DMA_WRITE before its own command is answered. See
//! [`Memory::quiesce`] for what that means for a device.
//!
//! # In a sandbox
//!
//! For a process that filters its system calls: beside sockets, eventfds, `poll`, `epoll` and mapping
//! files, a server uses `membarrier`, `fcntl`, `kcmp`, `io_setup` and `io_submit`, and reads
//! `/proc/self/fd`. Each of these five calls and the reading may be refused with an error, at some cost in
//! time; they may also be forbidden later, with a server under way.
//!
//! A process may fork, but the child must neither serve devices nor raise interrupts.

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
