//! QEMU's `edu`: a write to one register raises its interrupt, a write to another acknowledges it.

use super::{Registers, Stimulus};
use crate::{Error, Index};
use std::sync::Arc;

/// Raises: the device adds the value to the interrupt status.
pub const RAISE: usize = 0x60;
/// Acknowledges: the device removes the value from the interrupt status.
pub const ACKNOWLEDGE: usize = 0x64;

pub(super) struct Edu {
    bar: Arc<dyn Registers>,
}

impl Edu {
    pub(super) fn new(bar: Arc<dyn Registers>) -> Self {
        Self { bar }
    }
}

impl Stimulus for Edu {
    fn reach(&self, index: Index) -> u32 {
        u32::from(matches!(index, Index::Intx | Index::Msi))
    }

    fn ready(&mut self, _: Index, _: u32) -> Result<(), Error> {
        Ok(())
    }

    fn raise(&mut self, index: Index, _: u32) -> Result<(), Error> {
        self.bar.write32(RAISE, 1)?;
        // A message is sent at once. INTx stays asserted until it is acknowledged.
        if index == Index::Msi { self.acknowledge() } else { Ok(()) }
    }

    fn acknowledge(&mut self) -> Result<(), Error> {
        self.bar.write32(ACKNOWLEDGE, u32::MAX)
    }
}
