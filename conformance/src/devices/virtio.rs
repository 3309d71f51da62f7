//! A network card of virtio over PCI (Virtio 1.3, 4.1). Its transmit queue, transmitq1, interrupts with
//! the vector of MSI-X that the driver chooses. Each interrupt sends a frame of 60 zeros.
//!
//! A device may forget a pending interrupt of a vector that nothing uses, as QEMU does. So each vector
//! has a user of its own, which never interrupts: changes of the configuration, and the other queues.
//!
//! The limit: a device whose packets another thread or process sends (vhost) may interrupt later than the
//! packet is marked as used.

use super::{Function, Registers, Stimulus};
use crate::vfio::{self, Dma};
use crate::{Error, Index};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The capability of structures, and the fields of each.
const CAPABILITY: u8 = 0x09;
const CAPABILITY_TYPE: u64 = 3;
const CAPABILITY_BAR: u64 = 4;
const CAPABILITY_OFFSET: u64 = 8;
const CAPABILITY_MULTIPLIER: u64 = 16;
const TYPE_COMMON: u8 = 1;
const TYPE_NOTIFY: u8 = 2;
const TYPE_ISR: u8 = 3;
/// Registers of the common configuration structure.
const DEVICE_FEATURE_SELECT: usize = 0;
const DEVICE_FEATURE: usize = 4;
const DRIVER_FEATURE_SELECT: usize = 8;
const DRIVER_FEATURE: usize = 12;
const CONFIG_MSIX_VECTOR: usize = 16;
const NUM_QUEUES: usize = 18;
const STATUS: usize = 20;
const QUEUE_SELECT: usize = 22;
const QUEUE_SIZE: usize = 24;
const QUEUE_MSIX_VECTOR: usize = 26;
const QUEUE_ENABLE: usize = 28;
const QUEUE_NOTIFY_OFF: usize = 30;
const QUEUE_DESC: usize = 32;
const QUEUE_DRIVER: usize = 40;
const QUEUE_DEVICE: usize = 48;
/// ACKNOWLEDGE and DRIVER; FEATURES_OK; DRIVER_OK.
const STATUS_DRIVER: u8 = 3;
const STATUS_FEATURES: u8 = 8;
const STATUS_RUNNING: u8 = 15;
/// The features from 32 on: VERSION_1, and ACCESS_PLATFORM, without which DMA bypasses the IOMMU.
const FEATURES: u32 = 0b11;
const TRANSMITQ1: u16 = 1;
/// Entries of the transmit queue.
const ENTRIES: u16 = 16;
/// BARs of a function. A structure elsewhere is to be ignored.
const BARS: u8 = 6;
/// Places in the memory of [`Dma`].
const DESCRIPTORS: usize = 0;
const AVAILABLE: usize = 0x1000;
const USED: usize = 0x2000;
const PACKET: usize = 0x3000;
/// The header of virtio-net, and the shortest frame.
const PACKET_LEN: u32 = 12 + 60;
const PATIENCE: Duration = Duration::from_secs(20);

fn silent(why: &str) -> Error {
    Error::Silent { device: "network card of virtio", why: why.into() }
}

/// A structure of registers: a BAR, and an offset in it.
struct Structure {
    bar: Arc<dyn Registers>,
    at: usize,
}

impl Structure {
    fn read16(&self, register: usize) -> Result<u16, Error> {
        let mut bytes = [0; 2];
        self.bar.read(self.at + register, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn write16(&self, register: usize, value: u16) -> Result<(), Error> {
        self.bar.write(self.at + register, &value.to_le_bytes())
    }

    fn read32(&self, register: usize) -> Result<u32, Error> {
        self.bar.read32(self.at + register)
    }

    fn write32(&self, register: usize, value: u32) -> Result<(), Error> {
        self.bar.write32(self.at + register, value)
    }
}

pub(super) struct Net {
    common: Structure,
    isr: Structure,
    notify: Structure,
    multiplier: usize,
    dma: Arc<Dma>,
    /// Vectors that can be raised.
    vectors: u16,
    /// The index for which this driver has started the device, which may run from an earlier one.
    started: Option<Index>,
    /// Packets sent since the start.
    sent: u16,
}

impl Net {
    /// Finds the registers. Returns `None` for a device of which this cannot raise interrupts: one that
    /// is older than Virtio 1.0, or one whose DMA bypasses the IOMMU.
    pub(super) fn new(function: &dyn Function, dma: Arc<Dma>) -> Result<Option<Self>, Error> {
        let config = |at, bytes: &mut [u8]| function.config(at, bytes);
        let byte = |at| {
            let mut bytes = [0];
            config(at, &mut bytes).map(|()| bytes[0])
        };
        let word = |at| {
            let mut bytes = [0; 4];
            config(at, &mut bytes).map(|()| number(u32::from_le_bytes(bytes)))
        };
        let places = vfio::capabilities(&config, CAPABILITY)?;
        let find = |wanted| {
            for &at in &places {
                if byte(at + CAPABILITY_TYPE)? == wanted && byte(at + CAPABILITY_BAR)? < BARS {
                    return Ok(Some(at));
                }
            }
            Ok::<_, Error>(None)
        };
        let [Some(common), Some(notify), Some(isr)] =
            [find(TYPE_COMMON)?, find(TYPE_NOTIFY)?, find(TYPE_ISR)?]
        else {
            return Ok(None);
        };
        let structure = |at| {
            let bar = function.registers(u32::from(byte(at + CAPABILITY_BAR)?))?;
            Ok::<_, Error>(Structure { bar, at: word(at + CAPABILITY_OFFSET)? })
        };
        let common = structure(common)?;
        common.write32(DEVICE_FEATURE_SELECT, 1)?;
        if common.read32(DEVICE_FEATURE)? & FEATURES != FEATURES {
            return Ok(None);
        }
        Ok(Some(Self {
            vectors: common.read16(NUM_QUEUES)?,
            common,
            isr: structure(isr)?,
            multiplier: word(notify + CAPABILITY_MULTIPLIER)?,
            notify: structure(notify)?,
            dma,
            started: None,
            sent: 0,
        }))
    }

    fn status(&self) -> Result<u8, Error> {
        let mut status = [0];
        self.common.bar.read(self.common.at + STATUS, &mut status)?;
        Ok(status[0])
    }

    fn set_status(&self, status: u8) -> Result<(), Error> {
        self.common.bar.write(self.common.at + STATUS, &[status])
    }

    fn wait(&self, why: &str, is_over: impl Fn() -> Result<bool, Error>) -> Result<(), Error> {
        let since = Instant::now();
        while !is_over()? {
            if since.elapsed() > PATIENCE {
                return Err(silent(why));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Writes a register of vectors, which reads as another if the device refuses the vector. Such a
    /// register has no meaning unless MSI-X is enabled.
    fn set_vector(&self, register: usize, vector: u16) -> Result<(), Error> {
        self.common.write16(register, vector)?;
        match self.common.read16(register)? == vector {
            true => Ok(()),
            false => Err(silent("it refuses a vector")),
        }
    }

    /// Resets the device and starts it with its transmit queue.
    fn start(&mut self, index: Index) -> Result<(), Error> {
        let common = &self.common;
        self.started = None;
        self.set_status(0)?;
        self.wait("its reset does not end", || Ok(self.status()? == 0))?;
        self.set_status(STATUS_DRIVER)?;
        for (select, features) in [(0, 0), (1, FEATURES)] {
            common.write32(DRIVER_FEATURE_SELECT, select)?;
            common.write32(DRIVER_FEATURE, features)?;
        }
        self.set_status(STATUS_DRIVER | STATUS_FEATURES)?;
        if self.status()? & STATUS_FEATURES == 0 {
            return Err(silent("it refuses VERSION_1 and ACCESS_PLATFORM"));
        }
        if index == Index::Msix {
            self.set_vector(CONFIG_MSIX_VECTOR, 0)?;
            let others = (0..self.vectors).filter(|queue| *queue != TRANSMITQ1);
            for (queue, vector) in others.zip(1..) {
                common.write16(QUEUE_SELECT, queue)?;
                // The device refuses a vector beyond its table, which is not raised either.
                common.write16(QUEUE_MSIX_VECTOR, vector)?;
            }
        }
        common.write16(QUEUE_SELECT, TRANSMITQ1)?;
        common.write16(QUEUE_SIZE, ENTRIES)?;
        self.dma.memory.clear(DESCRIPTORS, PACKET + number(PACKET_LEN))?;
        // Descriptor 0 is the packet. All entries of the ring of available descriptors are 0.
        self.dma.memory.write32(DESCRIPTORS, self.address(PACKET))?;
        self.dma.memory.write32(DESCRIPTORS + 8, PACKET_LEN)?;
        for (register, place) in
            [(QUEUE_DESC, DESCRIPTORS), (QUEUE_DRIVER, AVAILABLE), (QUEUE_DEVICE, USED)]
        {
            common.write32(register, self.address(place))?;
            common.write32(register + 4, 0)?;
        }
        common.write16(QUEUE_ENABLE, 1)?;
        self.set_status(STATUS_RUNNING)?;
        (self.started, self.sent) = (Some(index), 0);
        Ok(())
    }

    fn address(&self, place: usize) -> u32 {
        // The memory is below 4 GiB.
        u32::try_from(self.dma.iova + place as u64).unwrap_or(u32::MAX)
    }
}

fn number(word: u32) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

impl Stimulus for Net {
    fn reach(&self, index: Index) -> u32 {
        match index {
            Index::Intx => u32::from(self.vectors.min(1)),
            Index::Msix => u32::from(self.vectors),
            Index::Msi | Index::Err | Index::Req => 0,
        }
    }

    fn ready(&mut self, _: Index, _: u32) -> Result<(), Error> {
        Ok(())
    }

    fn raise(&mut self, index: Index, vector: u32) -> Result<(), Error> {
        // A reset of the function stops it.
        if self.started != Some(index) || self.status()? != STATUS_RUNNING {
            self.start(index)?;
        }
        let common = &self.common;
        common.write16(QUEUE_SELECT, TRANSMITQ1)?;
        if index == Index::Msix {
            self.set_vector(QUEUE_MSIX_VECTOR, u16::try_from(vector).unwrap_or(u16::MAX))?;
        }
        self.sent = self.sent.wrapping_add(1);
        // The index is the upper half of the word; the lower half are flags.
        self.dma.memory.write32(AVAILABLE, u32::from(self.sent) << 16)?;
        let notify = usize::from(common.read16(QUEUE_NOTIFY_OFF)?);
        self.notify.write16(notify * self.multiplier, TRANSMITQ1)?;
        let memory = &self.dma.memory;
        let is_sent = || Ok(memory.read32(USED)? >> 16 == u32::from(self.sent));
        self.wait("a packet is not sent", is_sent)?;
        // The interrupt follows the used index, and arrives before the answer to a read: by the order of
        // PCI, and in QEMU since one thread does both.
        self.status().map(drop)
    }

    fn acknowledge(&mut self) -> Result<(), Error> {
        // Reading the cause clears it.
        self.isr.bar.read(self.isr.at, &mut [0])
    }
}
