//! QEMU's xHCI controllers: a vector for each interrupter. An event ring that its driver says is not
//! empty interrupts, so that no USB device is needed.

use super::{Registers, Stimulus};
use crate::vfio::Dma;
use crate::{Error, Index};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CAPLENGTH: usize = 0x00;
const HCSPARAMS1: usize = 0x04;
const RTSOFF: usize = 0x18;
/// Of the operational registers.
const USBCMD: usize = 0x00;
const USBCMD_RESET: u32 = 1 << 1;
const USBCMD_INTERRUPTS: u32 = 1 << 2;
/// Of the registers of an interrupter, which are 32 bytes, the first at 32.
const IMAN: usize = 0x00;
const IMAN_PENDING: u32 = 1;
const IMAN_ENABLED: u32 = 2;
const ERSTSZ: usize = 0x08;
const ERSTBA: usize = 0x10;
const ERDP: usize = 0x18;
const ERDP_BUSY: u32 = 1 << 3;
/// Events of a ring, and bytes of an event.
const RING: u32 = 16;
const EVENT: u32 = 16;
/// Bytes of memory for each interrupter: its ring, and the table that names the ring.
const MEMORY: u32 = 4096;
const TABLE: u32 = 2048;
const MOST: u32 = 16;
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Xhci {
    bar: Arc<dyn Registers>,
    dma: Arc<Dma>,
}

impl Xhci {
    pub(super) fn new(bar: Arc<dyn Registers>, dma: Arc<Dma>) -> Self {
        Self { bar, dma }
    }

    fn operational(&self) -> Result<usize, Error> {
        Ok(number(self.bar.read32(CAPLENGTH)? & 0xff))
    }

    fn interrupter(&self, vector: u32) -> Result<usize, Error> {
        Ok(number(self.bar.read32(RTSOFF)? & !0x1f) + 32 + 32 * number(vector))
    }

    fn reset(&self) -> Result<(), Error> {
        let command = self.operational()? + USBCMD;
        self.bar.write32(command, USBCMD_RESET)?;
        let since = Instant::now();
        while self.bar.read32(command)? & USBCMD_RESET != 0 {
            if since.elapsed() > PATIENCE {
                let why = "its reset does not end".into();
                return Err(Error::Silent { device: "xHCI controller", why });
            }
        }
        self.bar.write32(command, USBCMD_INTERRUPTS)
    }

    fn ring(&self, vector: u32) -> u32 {
        // The memory is below 4 GiB.
        u32::try_from(self.dma.iova).unwrap_or(u32::MAX).saturating_add(vector * MEMORY)
    }
}

fn number(word: u32) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

impl Stimulus for Xhci {
    fn reach(&self, index: Index) -> u32 {
        match index {
            Index::Intx => 1,
            Index::Msi | Index::Msix => {
                self.bar.read32(HCSPARAMS1).map_or(0, |word| word >> 8 & 0x7ff).min(MOST)
            }
            Index::Err | Index::Req => 0,
        }
    }

    fn ready(&mut self, _: Index, vectors: u32) -> Result<(), Error> {
        self.reset()?;
        for vector in 0..vectors.min(MOST) {
            let (ring, at) = (self.ring(vector), number(vector * MEMORY + TABLE));
            for (n, word) in [ring, 0, RING, 0].into_iter().enumerate() {
                self.dma.memory.write32(at + 4 * n, word)?;
            }
            let interrupter = self.interrupter(vector)?;
            self.bar.write32(interrupter + ERSTSZ, 1)?;
            self.bar.write32(interrupter + ERDP, ring)?;
            self.bar.write32(interrupter + ERDP + 4, 0)?;
            self.bar.write32(interrupter + ERSTBA, ring + TABLE)?;
            self.bar.write32(interrupter + ERSTBA + 4, 0)?;
            self.bar.write32(interrupter + IMAN, IMAN_ENABLED | IMAN_PENDING)?;
        }
        Ok(())
    }

    fn raise(&mut self, _: Index, vector: u32) -> Result<(), Error> {
        // The driver has handled the events before the second one. The controller has written none,
        // so the ring is not empty, and the controller interrupts again.
        let handled = self.ring(vector) + EVENT;
        self.bar.write32(self.interrupter(vector)? + ERDP, handled | ERDP_BUSY)
    }

    fn acknowledge(&mut self) -> Result<(), Error> {
        self.bar.write32(self.interrupter(0)? + IMAN, IMAN_ENABLED | IMAN_PENDING)
    }
}
