//! A device opened through a group of VFIO: container, DMA memory, configuration space, BARs.

use crate::devices::{Function, Identity, Kind, Registers};
use crate::sys::{self, GuardedBytes, Mapping};
use crate::target::IrqRegisters;
use crate::{Answer, Error};
use fs_err::{self as fs, File, os::unix::fs::FileExt};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP, vfio_region_info,
};

/// Memory of the device's DMA, and its address.
#[derive(Debug)]
pub struct Dma {
    /// The memory.
    pub memory: Mapping,
    /// The bus address of the memory.
    pub iova: u64,
}

pub(crate) const DMA_LEN: usize = 1 << 20;
pub(crate) const DMA_IOVA: u64 = 0x1000_0000;

fn open(path: &Path) -> Result<OwnedFd, Error> {
    Ok(File::options().read(true).write(true).open(path)?.into_file().into())
}

fn accept(step: &'static str, answer: Answer) -> Result<(), Error> {
    if answer.0 < 0 { Err(Error::Refused { step, answer }) } else { Ok(()) }
}

/// A group with its container, from which a device is opened repeatedly.
#[derive(Debug)]
pub struct Opener {
    bdf: String,
    group: OwnedFd,
    _container: OwnedFd,
    dma: Arc<Dma>,
}

impl Opener {
    /// Opens the group of a device that is bound to a VFIO driver.
    pub fn new(bdf: &str) -> Result<Self, Error> {
        let link = sysfs(bdf).join("iommu_group");
        let group = std::fs::read_link(link).ok().and_then(|to| to.file_name().map(PathBuf::from));
        let group = group.ok_or_else(|| Error::Device {
            bdf: bdf.into(),
            why: "it is not there, or the machine has no IOMMU".into(),
        })?;
        let container = open(Path::new("/dev/vfio/vfio"))?;
        let group = open(&Path::new("/dev/vfio").join(group))?;
        let put = sys::group_set_container(group.as_fd(), container.as_fd());
        accept("putting the group into a container", put)?;
        accept("choosing the IOMMU", sys::set_iommu(container.as_fd()))?;
        let dma = Dma { memory: Mapping::anonymous(DMA_LEN)?, iova: DMA_IOVA };
        accept("mapping memory", sys::map_dma(container.as_fd(), &dma.memory, dma.iova))?;
        Ok(Self { bdf: bdf.into(), group, _container: container, dma: Arc::new(dma) })
    }

    /// Returns the device's address.
    pub fn bdf(&self) -> &str {
        &self.bdf
    }

    /// Returns the memory of the device's DMA.
    pub fn dma(&self) -> Arc<Dma> {
        Arc::clone(&self.dma)
    }

    /// Opens the device with memory decoding and bus mastering enabled.
    pub fn open(&self) -> Result<Device, Error> {
        let device = self.open_bare()?;
        device.command_set(COMMAND_MEMORY | COMMAND_MASTER)?;
        Ok(device)
    }

    /// Opens the device without a change of its command register.
    fn open_bare(&self) -> Result<Device, Error> {
        let name = CString::new(self.bdf.as_str()).map_err(|_| Error::Device {
            bdf: self.bdf.clone(),
            why: "there is a zero byte in its address".into(),
        })?;
        let refused = |answer| Error::Refused { step: "opening the device", answer };
        let fd = sys::group_device(self.group.as_fd(), &name).map_err(refused)?;
        let config = region(fd.as_fd(), VFIO_PCI_CONFIG_REGION_INDEX)?.offset;
        Ok(Device { fd, config })
    }
}

fn region(device: BorrowedFd<'_>, index: u32) -> Result<vfio_region_info, Error> {
    let refused = |answer| Error::Refused { step: "asking for a region", answer };
    sys::region_info(device, index).map_err(refused)
}

/// Returns the directory of a PCI device in sysfs.
pub fn sysfs(bdf: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(bdf)
}

/// Returns a word of the device's real configuration space, which VFIO may emulate.
pub fn hardware16(bdf: &str, at: u64) -> Result<u16, Error> {
    let mut bytes = [0; 2];
    File::open(sysfs(bdf).join("config"))?.read_exact_at(&mut bytes, at)?;
    Ok(u16::from_le_bytes(bytes))
}

/// Writes a word of the device's real configuration space, past VFIO.
pub fn set_hardware16(bdf: &str, at: u64, value: u16) -> Result<(), Error> {
    let file = File::options().write(true).open(sysfs(bdf).join("config"))?;
    Ok(file.write_all_at(&value.to_le_bytes(), at)?)
}

/// Returns a file of the device in sysfs, without the trailing newline.
pub fn attribute(bdf: &str, name: &str) -> Result<String, Error> {
    Ok(fs::read_to_string(sysfs(bdf).join(name))?.trim_end().to_owned())
}

/// Returns the vendor, the device and the class code of a function.
pub fn identity(bdf: &str) -> Result<Identity, Error> {
    let number = |name| {
        let text = attribute(bdf, name)?;
        let digits = text.strip_prefix("0x").unwrap_or_default();
        u32::from_str_radix(digits, 16).map_err(|_| Error::Device {
            bdf: bdf.into(),
            why: format!("its {name} in sysfs is {text}"),
        })
    };
    let short = |name| Ok::<_, Error>(u16::try_from(number(name)?).unwrap_or(u16::MAX));
    Ok(Identity { vendor: short("vendor")?, device: short("device")?, class: number("class")? })
}

/// Returns true if a function is QEMU's `edu`.
pub fn is_edu(bdf: &str) -> Result<bool, Error> {
    Ok(!bdf.is_empty() && Kind::of(identity(bdf)?) == Some(Kind::Edu))
}

/// Returns the line of /proc/interrupts that names a handler.
fn interrupts_line(handler: &str) -> Result<Option<String>, Error> {
    let table = fs::read_to_string("/proc/interrupts")?;
    let names = |line: &&str| line.split([' ', ',']).any(|word| word == handler);
    Ok(table.lines().find(names).map(str::to_owned))
}

/// Returns the number of the interrupt with a handler of this name.
pub fn irq_of(handler: &str) -> Result<Option<u32>, Error> {
    let line = interrupts_line(handler)?;
    Ok(line.and_then(|line| line.trim_start().split(':').next()?.parse().ok()))
}

/// Returns the count of the interrupt with a handler of this name, over all processors.
pub fn interrupts_of(handler: &str) -> Result<u64, Error> {
    let line = interrupts_line(handler)?.unwrap_or_default();
    let counts = line.split_whitespace().skip(1);
    Ok(counts.map_while(|word| word.parse::<u64>().ok()).sum())
}

/// The offset of the command register in configuration space.
pub const COMMAND: u64 = 0x04;
/// Memory decoding is enabled.
pub const COMMAND_MEMORY: u16 = 0x2;
/// Bus mastering is enabled.
pub const COMMAND_MASTER: u16 = 0x4;
/// DisINTx: INTx is disabled.
pub const COMMAND_INTX_DISABLE: u16 = 0x400;
const STATUS: u64 = 0x06;
const STATUS_INTX: u16 = 0x8;
const STATUS_CAPABILITIES: u16 = 0x10;
const CAPABILITIES: u64 = 0x34;
const INTERRUPT_PIN: u64 = 0x3d;
const CAPABILITY_POWER: u8 = 0x01;
const CAPABILITY_MSI: u8 = 0x05;
const CAPABILITY_MSIX: u8 = 0x11;
/// Of the word behind the head of each capability.
const MSI_ENABLE: u16 = 1;
const MSIX_ENABLE: u16 = 1 << 15;
/// Bytes of an entry in the MSI-X table. The lowest bit of the last word masks the vector.
const ENTRY: usize = 16;
const ENTRY_MASKED: u32 = 1;

/// The interrupt capabilities in a device's configuration space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The device has an interrupt pin.
    pub pin: bool,
    /// Vectors of MSI; 0 without the capability.
    pub msi: u32,
    /// MSI has a mask bit for each vector.
    pub msi_mask_bits: bool,
    /// Vectors of MSI-X; 0 without the capability.
    pub msix: u32,
}

/// Reads configuration space at an offset.
pub(crate) type ReadConfig<'r> = &'r dyn Fn(u64, &mut [u8]) -> Result<(), Error>;

impl Facts {
    /// Reads the interrupt capabilities. Returns them.
    pub(crate) fn read(config: ReadConfig<'_>) -> Result<Self, Error> {
        let mut facts =
            Self { pin: read16(config, INTERRUPT_PIN & !1)? >> 8 != 0, ..Self::default() };
        if let Some(at) = capability(config, CAPABILITY_MSI)? {
            let control = read16(config, at + 2)?;
            facts.msi = 1 << ((control >> 1) & 7);
            facts.msi_mask_bits = control & 0x100 != 0;
        }
        if let Some(at) = capability(config, CAPABILITY_MSIX)? {
            facts.msix = u32::from(read16(config, at + 2)? & 0x7ff) + 1;
        }
        Ok(facts)
    }
}

fn read16(config: ReadConfig<'_>, at: u64) -> Result<u16, Error> {
    let mut bytes = [0; 2];
    config(at, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

/// Returns the offset of the first capability with this ID in configuration space.
fn capability(config: ReadConfig<'_>, id: u8) -> Result<Option<u64>, Error> {
    Ok(capabilities(config, id)?.first().copied())
}

/// Returns the offsets of all capabilities with this ID.
pub(crate) fn capabilities(config: ReadConfig<'_>, id: u8) -> Result<Vec<u64>, Error> {
    let mut places = Vec::new();
    if read16(config, STATUS)? & STATUS_CAPABILITIES == 0 {
        return Ok(places);
    }
    let mut at = u64::from(read16(config, CAPABILITIES)? & 0xfc);
    // A list of 48 capabilities fills the space; a longer one is a loop.
    for _ in 0..48 {
        if at == 0 {
            break;
        }
        let [found, next] = read16(config, at)?.to_le_bytes();
        if found == id {
            places.push(at);
        }
        at = u64::from(next & !3);
    }
    Ok(places)
}

/// The MSI-X table of a device, in its BAR.
#[derive(Debug)]
pub struct MsixTable {
    bar: Arc<Mapping>,
    offset: usize,
}

impl MsixTable {
    fn entry(&self, vector: u32) -> usize {
        let vector = usize::try_from(vector).unwrap_or(usize::MAX);
        self.offset.saturating_add(vector.saturating_mul(ENTRY))
    }

    /// Returns true if a vector is masked in the device.
    pub fn is_masked(&self, vector: u32) -> Result<bool, Error> {
        Ok(self.bar.read32(self.entry(vector).saturating_add(12))? & ENTRY_MASKED != 0)
    }

    /// Clears a vector's entry and masks it there, as a hidden reset does.
    pub fn forget_message(&self, vector: u32) -> Result<(), Error> {
        let entry = self.entry(vector);
        self.bar.write32(entry.saturating_add(12), ENTRY_MASKED)?;
        self.bar.clear(entry, 12)
    }
}

/// An open device.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
    config: u64,
}

impl Function for Device {
    fn registers(&self, bar: u32) -> Result<Arc<dyn Registers>, Error> {
        Ok(self.bar(bar)?)
    }

    fn config(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let read = rustix::io::pread(&self.fd, bytes, self.config + at);
        let what = "read (configuration space)";
        read.map_err(|source| Error::Descriptor { what, source })?;
        Ok(())
    }
}

/// A device whose registers are not mapped. While a BAR is out of reach, an access is an error;
/// through a mapping it is SIGBUS.
#[derive(Debug)]
pub struct Unmapped<'d>(pub &'d Device);

impl Function for Unmapped<'_> {
    fn registers(&self, bar: u32) -> Result<Arc<dyn Registers>, Error> {
        let offset = region(self.0.fd(), bar)?.offset;
        let file = rustix::io::dup(&self.0.fd);
        let file = file.map_err(|source| Error::Descriptor { what: "duplicated", source })?;
        Ok(Arc::new(Io { file, offset }))
    }

    fn config(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.config(at, bytes)
    }
}

/// Registers of a BAR through the device's file.
#[derive(Debug)]
struct Io {
    file: OwnedFd,
    offset: u64,
}

impl Registers for Io {
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
        let read = rustix::io::pread(&self.file, bytes, self.offset + offset as u64);
        read.map_err(|source| Error::Descriptor { what: "read (a register)", source })?;
        Ok(())
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let written = rustix::io::pwrite(&self.file, bytes, self.offset + offset as u64);
        written.map_err(|source| Error::Descriptor { what: "written to (a register)", source })?;
        Ok(())
    }
}

impl Device {
    /// Returns the descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Maps a BAR.
    pub fn bar(&self, number: u32) -> Result<Arc<Mapping>, Error> {
        let region = region(self.fd(), number)?;
        if region.flags & VFIO_REGION_INFO_FLAG_MMAP == 0 {
            return Err(Error::Unmappable(number));
        }
        let len = usize::try_from(region.size).unwrap_or(usize::MAX);
        Ok(Arc::new(Mapping::of_device(self.fd(), region.offset, len)?))
    }

    /// Sends a prepared request. Returns the answer.
    #[inline]
    pub fn set_irqs(&self, request: &GuardedBytes) -> Answer {
        request.set_irqs(self.fd.as_fd())
    }

    /// Resets the device and restores its memory decoding and bus mastering. Returns false if the
    /// device has no reset.
    pub fn reset(&self) -> Result<bool, Error> {
        match sys::device_reset(self.fd.as_fd()) {
            Answer::EINVAL => Ok(false),
            answer => accept("resetting the device", answer).map(|()| true),
        }
    }

    /// Reads the interrupt capabilities in configuration space. Returns them.
    pub fn facts(&self) -> Result<Facts, Error> {
        Facts::read(&|at, bytes| self.config(at, bytes))
    }

    fn capability(&self, id: u8) -> Result<Option<u64>, Error> {
        capability(&|at, bytes| self.config(at, bytes), id)
    }

    /// Returns the offset of the power state in configuration space: PMCSR of the power management
    /// capability.
    pub fn power_control(&self) -> Result<Option<u64>, Error> {
        Ok(self.capability(CAPABILITY_POWER)?.map(|at| at + 4))
    }

    /// Returns the place of the MSI address in configuration space, or `None` without the capability.
    pub fn msi_message(&self) -> Result<Option<u64>, Error> {
        Ok(self.capability(CAPABILITY_MSI)?.map(|at| at + 4))
    }

    /// Maps the MSI-X table; `None` without the capability.
    pub fn msix_table(&self) -> Result<Option<MsixTable>, Error> {
        let Some(capability) = self.capability(CAPABILITY_MSIX)? else { return Ok(None) };
        let mut place = [0; 4];
        self.config(capability + 4, &mut place)?;
        let place = u32::from_le_bytes(place);
        let bar = self.bar(place & 7)?;
        let offset = usize::try_from(place & !7).unwrap_or(usize::MAX);
        Ok(Some(MsixTable { bar, offset }))
    }

    /// Clears a vector's entry in the MSI-X table, as a hidden reset does.
    pub fn forget_message(&self, vector: u32) -> Result<(), Error> {
        self.msix_table()?.ok_or(Error::NoTable)?.forget_message(vector)
    }

    /// Reads what the device itself has in its registers of interrupts.
    pub fn irq_registers(&self, bdf: &str) -> Result<IrqRegisters, Error> {
        let enabled = |id, bit| match self.capability(id)? {
            Some(at) => Ok::<_, Error>(hardware16(bdf, at + 2)? & bit != 0),
            None => Ok(false),
        };
        Ok(IrqRegisters {
            command: hardware16(bdf, COMMAND)?,
            asserts_intx: hardware16(bdf, STATUS)? & STATUS_INTX != 0,
            msi_enabled: enabled(CAPABILITY_MSI, MSI_ENABLE)?,
            msix_enabled: enabled(CAPABILITY_MSIX, MSIX_ENABLE)?,
        })
    }

    fn command_set(&self, bits: u16) -> Result<(), Error> {
        self.config_write16(COMMAND, self.config16(COMMAND)? | bits)
    }

    /// Writes a word of configuration space.
    pub fn config_write16(&self, at: u64, value: u16) -> Result<(), Error> {
        let written = rustix::io::pwrite(&self.fd, &value.to_le_bytes(), self.config + at);
        let what = "written to (configuration space)";
        written.map_err(|source| Error::Descriptor { what, source })?;
        Ok(())
    }

    /// Returns the offset of configuration space in the device's file.
    pub fn config_offset(&self) -> u64 {
        self.config
    }

    fn config16(&self, at: u64) -> Result<u16, Error> {
        read16(&|at, bytes| self.config(at, bytes), at)
    }
}
