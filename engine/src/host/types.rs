// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The types that the engine and a platform share.

/// The type of message signalled interrupts. At most one is enabled.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Host, MsiType};
///
/// let sim = Sim::new();
/// assert_eq!((sim.count(MsiType::Msi), sim.count(MsiType::Msix)), (8, 64));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MsiType {
    /// MSI: a block of vectors, enabled as a set.
    Msi,
    /// MSI-X: a table of vectors.
    Msix,
}

/// The mask of a vector, or of INTx.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mask {
    /// The host signals interrupts.
    #[default]
    Unmasked,
    /// The device holds interrupts. Unmask signals once for all of them.
    Masked,
}

/// The number of vectors that an enabled index can have.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Host, MsiType, Size};
///
/// assert_eq!(Sim::new().enable(MsiType::Msi, 4), Ok(Size::Fixed(4)));
/// assert_eq!(Sim::new().enable(MsiType::Msix, 4), Ok(Size::Dynamic));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Size {
    /// This many, until the index is disabled (NORESIZE).
    Fixed(u32),
    /// Any vector of the table can be added at any time.
    Dynamic,
}
