//! NVMe: a device with many queues. Each queue has its own vector, which is enabled with the queue.
//!
//! [`Controller`] is an NVMe 1.4 controller, implemented as a device of `vfio-irq-user`. The NVMe driver
//! of the guest can boot from it:
//!
//! ```no_run
//! use vfio_irq_nvme::{Controller, Disk, Settings};
//! use vfio_irq_user::{Options, Server};
//!
//! let settings = Settings { queues: 64, serial: "S3RIAL".into() };
//! let disk = Disk::open("/var/lib/disk.img".as_ref())?;
//! let server = Server::start(Options::default())?;
//! let function = settings.function()?;
//! server.add("/run/nvme.sock", function, |bus| Controller::new(bus, disk, &settings))?;
//! server.wait();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`driver`] is a user-space driver for this controller and for hardware.

mod command;
mod controller;
mod disk;
pub mod driver;
mod prp;
mod status;

pub use controller::{Controller, Counts, Settings, Totals};
pub use disk::{BLOCK, Disk, DiskError};
