//! A device from its group or from its character device, both by rust-vmm's `vfio-ioctls`.

use crate::{Error, sys};
use std::path::Path;
use std::sync::Arc;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioIommufd, VfioOps};
use vfio_irq_conformance::sys::Mapping;
use vfio_irq_conformance::vfio::{COMMAND, COMMAND_MASTER, COMMAND_MEMORY, Dma};

const BAR0: u32 = 0;
const CONFIGURATION: u32 = 7;
const DMA_LEN: usize = 1 << 20;
const DMA_IOVA: u64 = 0x1000_0000;

/// The interface through which a device is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// `/dev/vfio/N`, in a container.
    Group,
    /// `/dev/vfio/devices/vfioN`, bound to an iommufd.
    Cdev,
}

impl Way {
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "group" => Some(Self::Group),
            "cdev" => Some(Self::Cdev),
            _ => None,
        }
    }
}

/// A device with a DMA mapping.
pub struct Opened {
    pub device: Arc<VfioDevice>,
    /// Declared after the device, so that it is dropped later.
    pub dma: Arc<Dma>,
}

impl Opened {
    pub fn new(way: Way, bdf: &str) -> Result<Self, Error> {
        let text = |error: vfio_ioctls::VfioError| error.to_string();
        let ops: Arc<dyn VfioOps> = match way {
            Way::Group => Arc::new(VfioContainer::new(None).map_err(text)?),
            Way::Cdev => {
                let iommufd = iommufd_ioctls::IommuFd::new()
                    .map_err(|error| format!("/dev/iommu cannot be used: {error}"))?;
                Arc::new(VfioIommufd::new(Arc::new(iommufd), None, None).map_err(text)?)
            }
        };
        let path = Path::new("/sys/bus/pci/devices").join(bdf);
        let device = Arc::new(VfioDevice::new(&path, Arc::clone(&ops), true).map_err(text)?);
        let dma = Arc::new(Dma { memory: Mapping::anonymous(DMA_LEN)?, iova: DMA_IOVA });
        sys::map(ops.as_ref(), &dma).map_err(text)?;
        let mut command = [0; 2];
        device.region_read(CONFIGURATION, &mut command, COMMAND);
        let on = u16::from_le_bytes(command) | COMMAND_MEMORY | COMMAND_MASTER;
        device.region_write(CONFIGURATION, &on.to_le_bytes(), COMMAND);
        Ok(Self { device, dma })
    }

    /// Returns the registers of BAR 0.
    pub fn registers(&self) -> Result<Arc<Mapping>, Error> {
        let (offset, len) =
            (self.device.get_region_offset(BAR0), self.device.get_region_size(BAR0));
        let registers = Mapping::of_device(sys::fd(&self.device), offset, usize::try_from(len)?)?;
        Ok(Arc::new(registers))
    }
}
