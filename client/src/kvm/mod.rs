//! A guest's MSI-X table over KVM: the guest's writes become irqfds and routes.
//!
//! A VMM puts [`MsixTable`] behind the table, the pending bits and the message control register
//! of a passed-through device. [`Routes`] is the VM's one table of interrupt routes, which all
//! devices share. The design differs from one route for each table entry:
//!
//! - **Only vectors in use cost resources.** The table allocates a host interrupt, an eventfd and a
//!   GSI when the guest first unmasks a vector.
//! - **Routes are committed in batches.** Each KVM_SET_GSI_ROUTING carries the whole table, so
//!   that one call for each vector is quadratic. A new vector works at once: user space sends its
//!   message ([`MsixTable::handle_events`]). With the next batch it moves to its irqfd. A batch
//!   is committed when as many routes wait as exist, or by [`MsixTable::commit`]. If no GSI is
//!   left for a vector (KVM has 4096), user space always sends its message.
//! - **A mask costs one re-target** and no route. A masked vector signals an eventfd that has no
//!   reader. Its count is the pending bit, and unmask delivers one interrupt.
//!
//! ```no_run
//! use kvm_ioctls::Kvm;
//! use std::sync::Arc;
//! use vfio_irq::kvm::{MsixTable, Routes};
//! use vfio_irq::{Index, Vectors, sim::Simulated};
//!
//! let vm = Arc::new(Kvm::new()?.create_vm()?);
//! vm.create_irq_chip()?;
//! // The GSIs below 24 are the pins of the interrupt controllers.
//! let routes = Arc::new(Routes::new(Arc::clone(&vm), Vec::new(), 24..4096));
//! let vectors = Vectors::open(Simulated::new(), Index::Msix)?;
//! let mut table = MsixTable::new(vectors, routes)?;
//!
//! table.set_control(0x8000)?; // The guest enables MSI-X.
//! table.write(0, &0xfee0_0000_u64.to_le_bytes())?; // The address of entry 0.
//! table.write(8, &0x0000_0000_0000_0041_u64.to_le_bytes())?; // Its data, unmasked.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod entry;
mod epoll;
mod routes;
mod saved;
mod table;
mod upkeep;
mod vm;

pub use routes::Routes;
pub use saved::Saved;
pub use table::MsixTable;
pub use vm::{Message, Route, Vm};
