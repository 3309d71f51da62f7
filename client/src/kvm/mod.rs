//! A VM's interrupt routes over KVM: GSIs, irqfds, and the one table of routes.
//!
//! [`KvmRoutes`] implements [`crate::msix::Routes`] for a VMM that has no routes of its own, or
//! whose own routes never change (pins).
//!
//! **Routes are committed in batches.** Each KVM_SET_GSI_ROUTING carries the whole table, so that
//! one call for each vector is quadratic. With the next batch, a new vector moves to its irqfd. A
//! batch is due when as many routes wait as exist. If no GSI is left for a vector (KVM has 4096),
//! user space always sends its message.
//!
//! ```no_run
//! use kvm_ioctls::Kvm;
//! use std::sync::Arc;
//! use vfio_irq::kvm::KvmRoutes;
//! use vfio_irq::msix::MsixTable;
//! use vfio_irq::{Index, Vectors, sim::Simulated};
//!
//! let vm = Arc::new(Kvm::new()?.create_vm()?);
//! vm.create_irq_chip()?;
//! // The GSIs below 24 are the pins of the interrupt controllers.
//! let routes = KvmRoutes::new(Arc::clone(&vm), Vec::new(), 24..4096);
//! let vectors = Vectors::open(Simulated::new(), Index::Msix)?;
//! let mut table = MsixTable::new(vectors, routes)?;
//!
//! table.set_control(0x8000)?; // The guest enables MSI-X.
//! table.write(0, &0xfee0_0000_u64.to_le_bytes())?; // The address of entry 0.
//! table.write(8, &0x0000_0000_0000_0041_u64.to_le_bytes())?; // Its data, unmasked.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod routes;
mod stock;
mod vm;

pub use routes::{KvmRoute, KvmRoutes};
pub use vm::{RoutingEntry, Vm};
