//! The contract of a device's interrupts (`CONTRACT.md`) as cases. They run against every target
//! that answers VFIO's two interrupt ioctls: a device of the running kernel, behind Linux's
//! vfio-pci-core or this project's, or the simulator.

pub mod answers;
pub mod atomicity;
pub mod cases;
pub mod compare;
pub mod devices;
pub mod differential;
mod error;
pub mod eventfd;
pub mod faults;
pub mod instructions;
pub mod model;
pub mod pin;
pub mod regressions;
pub mod requests;
pub mod storm;
pub mod stress;
pub mod sys;
pub mod target;
pub mod vector_exhaustion;
pub mod vfio;

pub use error::Error;
pub use requests::{Answer, Index, Info, Request, flags};
