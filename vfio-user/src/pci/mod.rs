//! PCI functions: what a device is on its bus, and its configuration space.

mod bar;
mod builder;
mod caps;
mod config;
mod msix;

pub use bar::{Bar, IoEventfd};
pub use builder::{Builder, Function, FunctionError};

pub(crate) use config::{BUS_MASTER, Config, Effects, INTX_OFF};
pub(crate) use msix::{MsixTable, Part};

/// Regions of a PCI device, as VFIO numbers them.
pub mod region {
    /// The ROM; BARs are 0 to 5.
    pub const ROM: u32 = 6;
    /// Configuration space.
    pub const CONFIG: u32 = 7;
    /// How many there are; the last is VGA's.
    pub const COUNT: u32 = 9;
}
