//! The passed-through device: what the guest reaches directly, and what the VMM traps.
//!
//! | the guest accesses | and reaches |
//! |---|---|
//! | a BAR | the device, through a mapping |
//! | the pages of the MSI-X table and of the pending bits | the VMM: [`MsixTable`] |
//! | message control of MSI-X | the VMM: [`MsixTable`] |
//! | BAR registers | the VMM, which has fixed their addresses |
//! | other configuration space | vfio-pci, which virtualizes it |

use crate::{Error, boot, sys};
use kvm_ioctls::VmFd;
use std::ops::Range;
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{VFIO_PCI_CONFIG_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP};
use vfio_ioctls::VfioDevice;
use vfio_irq::Vectors;
use vfio_irq::kvm::KvmRoutes;
use vfio_irq::msix::MsixTable;
use vm_memory::{FileOffset, MmapRegion};

const BARS: Range<u16> = 0x10..0x28;
const BAR_IO: u32 = 1;
const BAR_64_BITS: u32 = 4;
const ROM: u16 = 0x30;
const CAPABILITIES: u16 = 0x34;
const INTERRUPT_PIN: u16 = 0x3c;
const EXPRESS: u32 = 0x10;
const MSIX: u32 = 0x11;
/// Bit 7 of the upper byte of device control.
const FUNCTION_LEVEL_RESET: u8 = 1 << 7;
/// The guest's window for BARs, below the I/O APIC.
const WINDOW: Range<u64> = 0xe000_0000..boot::IOAPIC as u64;
const PAGE: u64 = 4096;
const READ_WRITE: i32 = 3;
const SHARED: i32 = 1;

/// One BAR register. The upper half of a 64-bit BAR is a register as well.
#[derive(Clone, Copy, Default)]
struct Bar {
    address: u64,
    /// 0 if the device has no such BAR, or if it is of ports.
    size: u64,
    /// The read-only bits.
    kind: u32,
    /// True for the upper half of a 64-bit BAR.
    upper: bool,
    /// The guest wrote ones, to read the size.
    sizing: bool,
}

/// Where the table or the pending bits are.
#[derive(Clone, Copy)]
struct Place {
    bar: u32,
    offset: u64,
    size: u64,
}

impl Place {
    /// Returns the pages of this BAR that the VMM traps.
    fn pages(&self) -> Range<u64> {
        self.offset / PAGE * PAGE..(self.offset + self.size).next_multiple_of(PAGE)
    }

    /// Returns the offset from the start of the place, if the access is inside it.
    fn offset_of(&self, bar: u32, offset: u64) -> Option<u64> {
        let inside = bar == self.bar && (self.offset..self.offset + self.size).contains(&offset);
        inside.then(|| offset - self.offset)
    }
}

pub struct Device {
    device: Arc<VfioDevice>,
    pub table: MsixTable<Arc<VfioDevice>, KvmRoutes<Arc<VmFd>>>,
    bars: [Bar; 6],
    table_place: Place,
    pending_place: Place,
    /// Offsets of the capabilities of MSI-X and of PCI Express.
    msix: u16,
    express: Option<u16>,
}

impl Device {
    pub fn new(
        device: Arc<VfioDevice>,
        vectors: Vectors<Arc<VfioDevice>>,
        routes: KvmRoutes<Arc<VmFd>>,
        vm: &VmFd,
    ) -> Result<Self, Error> {
        let table = MsixTable::new(vectors, routes)?;
        let msix = capability(&device, MSIX).ok_or("the device has no MSI-X")?;
        let express = capability(&device, EXPRESS);
        let place = |register, size| {
            let word = config(&device, msix + register);
            Place { bar: word & 7, offset: u64::from(word & !7), size }
        };
        let table_place = place(4, table.size());
        let pending_place = place(8, u64::try_from(table.pending_size())?);
        let bars = place_bars(&device)?;
        let device = Self { device, table, bars, table_place, pending_place, msix, express };
        device.map_bars(vm)?;
        Ok(device)
    }

    /// Maps the BARs into the guest, without the pages that the VMM traps.
    fn map_bars(&self, vm: &VmFd) -> Result<(), Error> {
        let mut slots = 1..;
        for (index, bar) in (0..).zip(&self.bars).filter(|(_, bar)| bar.size > 0) {
            if self.device.get_region_flags(index) & VFIO_REGION_INFO_FLAG_MMAP == 0 {
                continue; // The VMM traps all of it.
            }
            let places = [self.table_place, self.pending_place].into_iter();
            let mut holes: Vec<_> =
                places.filter(|place| place.bar == index).map(|place| place.pages()).collect();
            holes.push(bar.size..bar.size); // Ends the last part.
            holes.sort_by_key(|hole| hole.start);
            let mut start = 0;
            for hole in holes {
                if hole.start > start {
                    let offset = self.device.get_region_offset(index) + start;
                    let file = FileOffset::new(sys::file(&self.device)?, offset);
                    let size = usize::try_from(hole.start - start)?;
                    let registers = MmapRegion::build(Some(file), size, READ_WRITE, SHARED)?;
                    let slot = slots.next().ok_or("no memory slot is left")?;
                    let registers = Box::leak(Box::new(registers));
                    sys::map(vm, slot, bar.address + start, registers)?;
                }
                start = start.max(hole.end);
            }
        }
        Ok(())
    }

    /// Sends the messages of vectors without an irqfd.
    pub fn handle_events(&mut self) {
        log(self.table.handle_events());
    }

    /// Returns the BAR and the offset in it.
    fn find(&self, address: u64) -> Option<(u32, u64)> {
        let inside = |bar: &Bar| (bar.address..bar.address + bar.size).contains(&address);
        let (index, bar) = (0..).zip(&self.bars).find(|(_, bar)| inside(bar))?;
        Some((index, address - bar.address))
    }

    /// Handles the guest's write to a page that is not mapped.
    pub fn memory_write(&mut self, address: u64, bytes: &[u8]) {
        let Some((bar, offset)) = self.find(address) else { return };
        if let Some(offset) = self.table_place.offset_of(bar, offset) {
            // The first unmask of an entry enables its vector. `commit` moves it to its irqfd at
            // once; a VMM with many devices calls it from a timer instead.
            let written = self.table.write(offset, bytes);
            log(written.and(self.table.commit()));
        } else if self.pending_place.offset_of(bar, offset).is_none() {
            self.device.region_write(bar, bytes, offset);
        }
    }

    /// Handles the guest's read from a page that is not mapped.
    pub fn memory_read(&mut self, address: u64, bytes: &mut [u8]) {
        bytes.fill(0xff);
        let Some((bar, offset)) = self.find(address) else { return };
        if let Some(offset) = self.table_place.offset_of(bar, offset) {
            return self.table.read(offset, bytes);
        }
        self.device.region_read(bar, bytes, offset);
        if let Some(offset) = self.pending_place.offset_of(bar, offset) {
            // The device holds the pending bits of vectors that the guest never unmasked.
            let mut held = [0; 8];
            let held = &mut held[..bytes.len().min(8)];
            self.table.read_pending(offset, held);
            bytes.iter_mut().zip(held).for_each(|(byte, held)| *byte |= *held);
        }
    }

    /// Reads four bytes of configuration space.
    pub fn config_read(&self, register: u16) -> u32 {
        let word = config(&self.device, register);
        match register {
            _ if BARS.contains(&register) => {
                self.bar_read(usize::from((register - BARS.start) / 4))
            }
            ROM => 0,
            INTERRUPT_PIN => word & !0xffff, // No INTx.
            _ if register == self.msix => word & 0xffff | u32::from(self.table.control()) << 16,
            _ => word,
        }
    }

    fn bar_read(&self, index: usize) -> u32 {
        let bar = self.bars[index];
        // The upper half has the address and the size of the lower half.
        let whole = if bar.upper { self.bars[index - 1] } else { bar };
        let value = if bar.sizing { whole.size.wrapping_neg() } else { whole.address };
        match (whole.size, bar.upper) {
            (0, _) => 0,
            (_, false) => (value & 0xffff_fff0) as u32 | bar.kind,
            (_, true) => (value >> 32) as u32,
        }
    }

    /// Handles the guest's write to configuration space.
    pub fn config_write(&mut self, register: u16, bytes: &[u8]) {
        let byte_at = |at: u16| bytes.get(usize::from(at.checked_sub(register)?)).copied();
        if BARS.contains(&register) {
            let bar = &mut self.bars[usize::from((register - BARS.start) / 4)];
            bar.sizing = bytes == [0xff; 4];
        } else if let Some(high) = byte_at(self.msix + 3) {
            // The upper byte of message control has its two writable bits.
            let set = self.table.set_control(u16::from(high) << 8);
            log(set.and(self.table.commit()));
        } else if byte_at(ROM).is_none() {
            self.device.region_write(VFIO_PCI_CONFIG_REGION_INDEX, bytes, register.into());
            let device_control = self.express.and_then(|express| byte_at(express + 9));
            if device_control.is_some_and(|high| high & FUNCTION_LEVEL_RESET != 0) {
                log(self.table.reset());
            }
        }
    }
}

/// Logs an error of the host or of KVM. The guest's write is stored even so.
fn log<R>(outcome: Result<R, vfio_irq::Error>) {
    if let Err(error) = outcome {
        eprintln!("MSI-X: {error}");
    }
}

fn config(device: &VfioDevice, register: u16) -> u32 {
    let mut bytes = [0xff; 4];
    device.region_read(VFIO_PCI_CONFIG_REGION_INDEX, &mut bytes, register.into());
    u32::from_le_bytes(bytes)
}

/// Returns the offset of a capability.
fn capability(device: &VfioDevice, id: u32) -> Option<u16> {
    let mut at = config(device, CAPABILITIES) & 0xfc;
    while at != 0 {
        let register = u16::try_from(at).ok()?;
        let word = config(device, register);
        if word & 0xff == id {
            return Some(register);
        }
        at = word >> 8 & 0xfc;
    }
    None
}

/// Gives each BAR an address in the guest. Returns the six registers.
fn place_bars(device: &VfioDevice) -> Result<[Bar; 6], Error> {
    let (mut bars, mut next) = ([Bar::default(); 6], WINDOW.start);
    let mut index = 0;
    while index < bars.len() {
        let word = config(device, BARS.start + 4 * u16::try_from(index)?);
        let size = device.get_region_size(u32::try_from(index)?);
        if size > 0 && word & BAR_IO == 0 {
            // Each BAR has pages of its own.
            let address = next.next_multiple_of(size.max(PAGE));
            next = address + size;
            if next > WINDOW.end {
                return Err(format!("BAR {index} of {size} bytes does not fit").into());
            }
            bars[index] = Bar { address, size, kind: word & 0xf, ..Bar::default() };
            if word & BAR_64_BITS != 0 {
                index += 1;
                bars[index].upper = true;
            }
        }
        index += 1;
    }
    Ok(bars)
}
