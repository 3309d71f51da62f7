//! PCI functions and their configuration space.
//!
//! ```
//! use vfio_irq_user::pci::{Bar, Function};
//!
//! // The class is what drivers look for, the BARs are what they talk to, and MSI-X is how they hear.
//! let network = Function::builder(0x1234, 0x0100)
//!     .class(0x02, 0x00, 0x00)
//!     .bar(0, Bar::memory32(0x8000))
//!     .msix(32, 0, 0x4000, 0x6000)
//!     .build()?;
//! assert_eq!(network.vectors(), 32);
//! # Ok::<(), vfio_irq_user::pci::FunctionError>(())
//! ```

mod bar;
mod builder;
mod config;
mod layout;
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
    /// The number of regions; the last is VGA.
    pub const COUNT: u32 = 9;
}
