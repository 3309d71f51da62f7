//! A guest's MSI-X table: the guest's writes become vectors of the host and routes of the VM.
//!
//! A VMM puts [`MsixTable`] behind the table, the pending bits and the message control register
//! of a passed-through device. [`Routes`] is the VMM's side: it allocates a [`Route`] for each
//! vector. `kvm::KvmRoutes` (feature `kvm`) implements it over KVM alone. A VMM that shares a
//! table of routes with its emulated devices, or that runs on another hypervisor, implements it
//! over its own.
//!
//! - **Only vectors in use cost resources.** The table allocates a host interrupt and a route when
//!   the guest first unmasks a vector.
//! - **A vector works at once**, although its route may wait for a batch: user space sends its
//!   message ([`MsixTable::handle_events`]) until [`Routes::flush`].
//! - **A mask costs one re-target** and no change of a route. A masked vector signals an eventfd
//!   that has no reader. Its count is the pending bit, and unmask delivers one interrupt.
//!
//! # System calls, for a seccomp filter
//!
//! | the guest or the VMM | calls | on the thread of a virtual processor |
//! |---|---|---|
//! | writes the table or message control | `ioctl` VFIO_DEVICE_SET_IRQS (vfio-user: `sendmsg` and `recvmsg`), `read` and `write` of eventfds, `epoll_ctl` of a vector that waits for its route, `close` | yes |
//! | reads the table or message control | none | yes |
//! | reads pending bits | `read` of an eventfd for each masked vector | yes |
//! | [`MsixTable::commit`], [`MsixTable::retry`], [`MsixTable::reset`], [`MsixTable::restore`] | as the writes | as the VMM likes |
//! | [`MsixTable::handle_events`] | `epoll_wait` without blocking, `read`, [`Routes::signal`] | no |
//! | [`MsixTable::save`] | `ppoll` | no |
//! | [`MsixTable::new`] | `epoll_create1` | no |
//!
//! The calls of [`Routes`] and [`Route`] come on top. A write makes all of them but
//! [`Routes::signal`]. Those of `kvm::KvmRoutes` are `ioctl` KVM_IRQFD and KVM_SET_GSI_ROUTING,
//! and `eventfd2` unless eventfds were made ahead. No call needs a system call that
//! Cloud Hypervisor's filter for virtual processors forbids. A test holds the column "yes".

mod entry;
mod epoll;
mod routes;
mod saved;
mod table;
mod upkeep;

pub use routes::{Message, Route, Routes};
pub use saved::Saved;
pub use table::MsixTable;
