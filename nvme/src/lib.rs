//! NVMe: a device with many queues, each with an interrupt of its own, each enabled whenever its user
//! comes.
//!
//! [`Controller`] is an NVMe 1.4 controller as a device of `vfio-irq-user`. A guest's own driver boots
//! its disk from it:
//!
//! ```
//! use vfio_irq_nvme::{Controller, Disk, Settings};
//! use vfio_irq_user::{Options, Server};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("nvme.sock");
//! let settings = Settings { queues: 4, serial: "example".into() };
//! let disk = Disk::memory(64 << 20)?;
//! let server = Server::start(Options::default())?;
//! server.add(&path, settings.function()?, |bus| Controller::new(bus, disk, &settings))?;
//! // Guests come and go, until somebody calls `server.stopper().stop()`.
//! # drop(server);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`driver`] is the other side: a driver in user space, for this controller and for real ones.

mod command;
mod controller;
mod disk;
pub mod driver;
mod prp;
mod status;

pub use controller::{Controller, Counts, Settings, Totals};
pub use disk::{BLOCK, Disk, DiskError};
