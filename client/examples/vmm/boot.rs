//! Guest memory, and everything in it that Linux expects at its 64-bit entry point.

use crate::Error;
use linux_loader::loader::KernelLoader;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::bzimage::BzImage;
use std::fs::File;
use std::path::Path;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub type Memory = GuestMemoryMmap<()>;

pub const GDT: u64 = 0x500;
pub const ZERO_PAGE: u64 = 0x7000;
pub const PAGE_TABLES: u64 = 0x9000;
const COMMAND_LINE: u64 = 0x2_0000;
/// The last kilobyte of base memory, where Linux looks for the MP table.
const MP_TABLE: u64 = 0x9_fc00;
const HIGH_MEMORY: u64 = 0x10_0000;
const E820_RAM: u32 = 1;
pub const IOAPIC: u32 = 0xfec0_0000;
const LAPIC: u32 = 0xfee0_0000;

/// The segments of the boot protocol: code at 0x10, data at 0x18.
pub const SEGMENTS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Returns memory at address 0. It is never unmapped, because a device may write to it until the
/// process ends.
pub fn memory(size: usize) -> Result<&'static Memory, Error> {
    Ok(Box::leak(Box::new(Memory::from_ranges(&[(GuestAddress(0), size)])?)))
}

/// Loads the kernel, its initrd and its tables. Returns the address of the entry point.
pub fn load(
    memory: &Memory,
    kernel: &Path,
    initrd: &Path,
    command_line: &str,
    cpus: u8,
) -> Result<u64, Error> {
    let open = |path: &Path| File::open(path).map_err(|e| format!("{}: {e}", path.display()));
    let high = Some(GuestAddress(HIGH_MEMORY));
    let loaded = BzImage::load(memory, None, &mut open(kernel)?, high)?;
    memory.write_slice(format!("{command_line}\0").as_bytes(), GuestAddress(COMMAND_LINE))?;

    let mut initrd = open(initrd)?;
    let size = usize::try_from(initrd.metadata()?.len())?;
    let top = crate::MEMORY.checked_sub(size).ok_or("the initrd is larger than memory")?;
    let start = u64::try_from(top)? & !0xfff;
    memory.read_exact_volatile_from(GuestAddress(start), &mut initrd, size)?;

    let mut params =
        boot_params { hdr: loaded.setup_header.ok_or("no setup header")?, ..Default::default() };
    params.hdr.type_of_loader = 0xff;
    params.hdr.cmd_line_ptr = u32::try_from(COMMAND_LINE)?;
    params.hdr.ramdisk_image = u32::try_from(start)?;
    params.hdr.ramdisk_size = u32::try_from(size)?;
    let above = u64::try_from(crate::MEMORY)? - HIGH_MEMORY;
    for (entry, (addr, size)) in [(0, MP_TABLE), (HIGH_MEMORY, above)].into_iter().enumerate() {
        params.e820_table[entry] = boot_e820_entry { addr, size, r#type: E820_RAM };
        params.e820_entries += 1;
    }
    memory.write_obj(params, GuestAddress(ZERO_PAGE))?;
    memory.write_obj(SEGMENTS, GuestAddress(GDT))?;
    write_page_tables(memory)?;
    memory.write_slice(&mp_table(cpus)?, GuestAddress(MP_TABLE))?;
    // The 64-bit entry point is 0x200 after the start.
    Ok(loaded.kernel_load.0 + 0x200)
}

/// Maps the first gigabyte to itself, in pages of 2 MiB.
fn write_page_tables(memory: &Memory) -> Result<(), Error> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    for level in [PAGE_TABLES, PAGE_TABLES + 0x1000] {
        memory.write_obj((level + 0x1000) | PRESENT_WRITABLE, GuestAddress(level))?;
    }
    for page in 0..512 {
        let at = GuestAddress(PAGE_TABLES + 0x2000 + page * 8);
        memory.write_obj(page << 21 | LARGE | PRESENT_WRITABLE, at)?;
    }
    Ok(())
}

/// Returns the tables of the MultiProcessor Specification 1.4: the floating pointer, and after it
/// the processors, an ISA bus, the I/O APIC and its pins.
fn mp_table(cpus: u8) -> Result<Vec<u8>, Error> {
    let mut entries: Vec<Vec<u8>> = Vec::new();
    for cpu in 0..cpus {
        // Enabled, and the first one boots.
        let mut entry = vec![0, cpu, 0x14, if cpu == 0 { 3 } else { 1 }];
        entry.resize(20, 0);
        entries.push(entry);
    }
    entries.push([[1, 0].as_slice(), b"ISA   "].concat());
    let ioapic = cpus;
    entries.push([[2, ioapic, 0x11, 1].as_slice(), &IOAPIC.to_le_bytes()].concat());
    entries.extend((0..16).map(|pin| vec![3, 0, 0, 0, 0, pin, ioapic, pin]));
    // LINT0 of the first processor is ExtINT, LINT1 of all is NMI.
    entries.push(vec![4, 3, 0, 0, 0, 0, 0, 0]);
    entries.push(vec![4, 1, 0, 0, 0, 0, 0xff, 1]);

    let (body, count) = (entries.concat(), u16::try_from(entries.len())?.to_le_bytes());
    let length = u16::try_from(44 + body.len())?.to_le_bytes();
    let name = [&length, [4, 0].as_slice(), b"vfio-irqVMM         ", &[0; 6]].concat();
    let head = [b"PCMP", name.as_slice(), &count, &LAPIC.to_le_bytes(), &[0; 4]].concat();
    let mut table = [head, body].concat();
    table[7] = checksum(&table);

    let address = u32::try_from(MP_TABLE + 16)?.to_le_bytes();
    let mut pointer = [b"_MP_", address.as_slice(), &[1, 4, 0, 0, 0, 0, 0, 0]].concat();
    pointer[10] = checksum(&pointer);
    Ok([pointer, table].concat())
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte))
}
