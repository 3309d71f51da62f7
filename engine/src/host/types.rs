// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the engine and its platform speak of.

/// The two kinds of message signalled interrupts. Never both at once.
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
    /// Interrupts are signalled.
    #[default]
    Unmasked,
    /// Interrupts are held by the device and signalled once at unmask.
    Masked,
}

/// How many vectors an enabled index can have.
///
/// ```
/// use vfio_irq_engine::{sim::Sim, Host, MsiType, Size};
///
/// assert_eq!(Sim::new().enable(MsiType::Msi, 4), Ok(Size::Fixed(4)));
/// assert_eq!(Sim::new().enable(MsiType::Msix, 4), Ok(Size::Dynamic));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Size {
    /// These and no more until it is disabled (NORESIZE).
    Fixed(u32),
    /// Any vector of the table, whenever it is asked for.
    Dynamic,
}
