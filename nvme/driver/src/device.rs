//! A controller over VFIO of the kernel, by rust-vmm's `VfioDevice`.

use super::memory::Memory;
use super::sys::Registers;
use super::{Error, Function};
use std::io;
use std::path::Path;
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP,
};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioOps, VfioRegionInfoCap};
use vfio_irq::{Index, Info, SetIrqs, Transport};

/// The offset of revision and class in configuration space.
const CLASS: u64 = 8;
/// The command register, and its bits.
const COMMAND: u64 = 4;
const MEMORY: u16 = 1 << 1;
const MASTER: u16 = 1 << 2;

/// A controller that is bound to a VFIO driver.
///
/// ```no_run
/// use vfio_irq_nvme_driver::{Device, Driver, Options};
///
/// let driver = Driver::open(Device::open("0000:01:00.0")?, Options::default())?;
/// println!("{:?}", driver.info());
/// # Ok::<(), vfio_irq_nvme_driver::Error>(())
/// ```
pub struct Device {
    /// Declared first, so that the mapping is dropped before the device.
    registers: Option<Registers>,
    device: VfioDevice,
    container: Arc<dyn VfioOps>,
    size: u64,
}

impl Device {
    /// Opens a controller by its PCI address, such as `0000:01:00.0`, in its own container.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Open`] if the device does not exist, is not bound to a VFIO driver, or is
    /// in use.
    pub fn open(bdf: &str) -> Result<Self, Error> {
        let failed = |why: String| Error::Open { bdf: bdf.into(), why };
        let path = Path::new("/sys/bus/pci/devices").join(bdf);
        if bdf.contains('/') || !path.exists() {
            return Err(failed("there is no such PCI device (lspci -D lists them)".into()));
        }
        if !path.join("iommu_group").exists() {
            return Err(failed("it has no IOMMU group: the machine's IOMMU is off".into()));
        }
        let group = |error: &dyn std::fmt::Display| {
            failed(format!(
                "{error}: it must be bound to vfio-pci or another VFIO driver, and unused"
            ))
        };
        let container = VfioContainer::new(None).map_err(|error| group(&error))?;
        let container: Arc<dyn VfioOps> = Arc::new(container);
        let device = VfioDevice::new(&path, Arc::clone(&container), true);
        Self::over(device.map_err(|error| group(&error))?, container)
    }

    /// Takes an open device, and the container that maps memory for it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Access`] if its registers cannot be mapped.
    pub fn over(device: VfioDevice, container: Arc<dyn VfioOps>) -> Result<Self, Error> {
        let size = device.get_region_size(VFIO_PCI_BAR0_REGION_INDEX);
        let registers = if can_map(&device) {
            let offset = device.get_region_offset(VFIO_PCI_BAR0_REGION_INDEX);
            let registers = Registers::map(&device, offset, size);
            Some(registers.map_err(Error::access("mapping BAR 0"))?)
        } else {
            None
        };
        Ok(Self { registers, device, container, size })
    }

    fn inside(&self, offset: u64) -> io::Result<()> {
        let inside = offset.checked_add(4).is_some_and(|end| end <= self.size);
        if inside && offset.is_multiple_of(4) { Ok(()) } else { Err(outside()) }
    }
}

/// Returns true if BAR 0 can be mapped as a whole. Otherwise the driver uses reads and writes.
fn can_map(device: &VfioDevice) -> bool {
    let flags = device.get_region_flags(VFIO_PCI_BAR0_REGION_INDEX);
    let caps = device.get_region_caps(VFIO_PCI_BAR0_REGION_INDEX);
    let sparse = caps.iter().any(|cap| matches!(cap, VfioRegionInfoCap::SparseMmap(_)));
    flags & VFIO_REGION_INFO_FLAG_MMAP != 0 && !sparse
}

/// An access beyond BAR 0, or one that is not aligned.
pub(crate) fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not an aligned word of BAR 0")
}

impl Transport for Device {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        self.device.irq_info(index)
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        self.device.set_irqs(request)
    }
}

impl Function for Device {
    fn class(&self) -> io::Result<u32> {
        let mut revision_and_class = [0xff; 4];
        self.device.region_read(VFIO_PCI_CONFIG_REGION_INDEX, &mut revision_and_class, CLASS);
        Ok(u32::from_le_bytes(revision_and_class) >> 8)
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read32(&self, offset: u64) -> io::Result<u32> {
        self.inside(offset)?;
        if let Some(registers) = &self.registers {
            return registers.read(offset).ok_or_else(outside);
        }
        // Ones, as from a device that is gone, stay where nothing can be read.
        let mut value = [0xff; 4];
        self.device.region_read(VFIO_PCI_BAR0_REGION_INDEX, &mut value, offset);
        Ok(u32::from_le_bytes(value))
    }

    fn write32(&self, offset: u64, value: u32) -> io::Result<()> {
        self.inside(offset)?;
        if let Some(registers) = &self.registers {
            return registers.write(offset, value).ok_or_else(outside);
        }
        self.device.region_write(VFIO_PCI_BAR0_REGION_INDEX, &value.to_le_bytes(), offset);
        Ok(())
    }

    fn set_bus_master(&self, on: bool) -> io::Result<()> {
        let mut command = [0; 2];
        self.device.region_read(VFIO_PCI_CONFIG_REGION_INDEX, &mut command, COMMAND);
        let other = (u16::from_le_bytes(command) | MEMORY) & !MASTER;
        let wanted = if on { other | MASTER } else { other };
        self.device.region_write(VFIO_PCI_CONFIG_REGION_INDEX, &wanted.to_le_bytes(), COMMAND);
        // The container only logs failures, so the driver checks the result.
        self.device.region_read(VFIO_PCI_CONFIG_REGION_INDEX, &mut command, COMMAND);
        let same = (u16::from_le_bytes(command) ^ wanted) & MASTER == 0;
        if same { Ok(()) } else { Err(io::Error::other("the command register stays as it was")) }
    }

    fn map(&self, memory: &Memory, address: u64) -> io::Result<()> {
        super::sys::map(&*self.container, memory, address).map_err(io::Error::other)
    }

    fn unmap(&self, address: u64, size: u64) -> io::Result<()> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.container.vfio_dma_unmap(address, size).map_err(io::Error::other)
    }
}
