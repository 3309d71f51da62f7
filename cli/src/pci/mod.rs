//! The system's information about PCI functions and their interrupts, from sysfs and procfs.

pub mod at_boot;
mod bdf;
pub mod blocks;
pub mod class;
pub mod config;
pub mod debugfs;
pub mod driver;
pub mod function;
pub mod holders;
pub mod interrupts;
pub mod modules;
pub mod names;
pub mod nodes;
pub mod sriov;
mod system;
pub mod users;
pub mod vfio;

pub use bdf::Bdf;
pub use system::{System, link, names};
