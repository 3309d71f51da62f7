//! Intel 82576: the registers that set interrupt causes by software.

use super::{Registers, Stimulus};
use crate::{Error, Index};
use std::sync::Arc;

const EICS: usize = 0x1520;
const EIMS: usize = 0x1524;
const EIAC: usize = 0x152c;
const GPIE: usize = 0x1514;
const GPIE_MULTIPLE_MSIX: u32 = 1 << 4;
/// Reading the causes clears all of them. (The causes are at their older addresses, because QEMU
/// implements only those.)
const GPIE_CLEAR_ON_READ: u32 = 1;
const ICR: usize = 0xc0;
const ICS: usize = 0xc8;
const IMS: usize = 0xd0;
const LINK_STATUS_CHANGE: u32 = 1 << 2;
/// Vectors of the function in MSI-X mode.
const VECTORS: u32 = 10;

pub(super) struct Igb {
    bar: Arc<dyn Registers>,
}

impl Igb {
    pub(super) fn new(bar: Arc<dyn Registers>) -> Self {
        Self { bar }
    }
}

impl Stimulus for Igb {
    fn reach(&self, index: Index) -> u32 {
        match index {
            Index::Intx | Index::Msi => 1,
            Index::Msix => VECTORS,
            Index::Err | Index::Req => 0,
        }
    }

    fn ready(&mut self, index: Index, _: u32) -> Result<(), Error> {
        if index == Index::Msix {
            let all = (1 << VECTORS) - 1;
            self.bar.write32(GPIE, GPIE_MULTIPLE_MSIX)?;
            // A cause clears itself when its message is sent.
            self.bar.write32(EIAC, all)?;
            return self.bar.write32(EIMS, all);
        }
        self.bar.write32(GPIE, GPIE_CLEAR_ON_READ)?;
        self.bar.write32(IMS, LINK_STATUS_CHANGE)?;
        self.acknowledge()
    }

    fn raise(&mut self, index: Index, vector: u32) -> Result<(), Error> {
        if index == Index::Msix {
            return self.bar.write32(EICS, 1 << vector);
        }
        self.bar.write32(ICS, LINK_STATUS_CHANGE)?;
        if index == Index::Msi { self.acknowledge() } else { Ok(()) }
    }

    fn acknowledge(&mut self) -> Result<(), Error> {
        // Reading the causes clears them.
        self.bar.read32(ICR).map(|_| ())
    }
}
