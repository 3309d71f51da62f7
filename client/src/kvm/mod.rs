//! A guest's MSI-X table over KVM: the guest's writes go in, irqfds and routes come out.
//!
//! [`MsixTable`] is what a VMM puts behind a passed-through device's table, its pending bits and its
//! message control register. [`Routes`] is the VM's one table of interrupt routes, shared by all
//! devices. What it does otherwise than a route for each table entry:
//!
//! - **Only vectors in use cost anything.** A vector gets its host interrupt, its eventfd and its GSI
//!   when the guest unmasks it for the first time.
//! - **Routes are committed in batches.** Each KVM_SET_GSI_ROUTING carries the whole table, so one
//!   for each vector is quadratic. Here a new vector works at once, signalled from user space
//!   ([`MsixTable::handle_events`]), and moves to its irqfd with the next batch, which is made when
//!   as many wait as there are routes, or when [`MsixTable::commit`] is called. A VMM without a GSI
//!   left for a vector (there are 4096) signals it from user space for good.
//! - **A mask costs one re-target**, and no route: a masked vector's interrupts go to an eventfd that
//!   nobody waits for. That is its pending bit; when it is unmasked, it is delivered once.
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
//! table.set_control(0x8000)?; // the guest enables MSI-X
//! table.write(0, &0xfee0_0000_u64.to_le_bytes())?; // entry 0: address
//! table.write(8, &0x0000_0000_0000_0041_u64.to_le_bytes())?; // its data; unmasked
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod entry;
mod routes;
mod saved;
mod table;
mod upkeep;
mod vm;
mod watch;

pub use routes::Routes;
pub use saved::Saved;
pub use table::MsixTable;
pub use vm::{Message, Route, Vm};
