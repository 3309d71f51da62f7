//! Virtual processors, and the accesses for which they leave the guest.

use crate::{Error, Machine, boot, lock};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_dtable, kvm_regs, kvm_segment};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::io::Errno;

/// The keyboard controller: Linux resets the machine through it.
const KEYBOARD: u16 = 0x64;
const RESET: u8 = 0xfe;
const TSC_DEADLINE: u32 = 1 << 24;

/// Creates a processor. The first one starts at `entry`; KVM's local APICs start the others.
/// Returns it.
pub fn create(kvm: &Kvm, vm: &VmFd, number: u8, entry: u64) -> Result<VcpuFd, Error> {
    let cpu = vm.create_vcpu(number.into())?;
    let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    for leaf in cpuid.as_mut_slice() {
        let id = u32::from(number);
        match leaf.function {
            1 => {
                leaf.ebx = leaf.ebx & 0x00ff_ffff | id << 24;
                // KVM always emulates the deadline timer, which needs no calibration.
                leaf.ecx |= TSC_DEADLINE;
            }
            0xb | 0x1f => leaf.edx = id,
            0x8000_001e => leaf.eax = id,
            _ => {}
        }
    }
    cpu.set_cpuid2(&cpuid)?;
    if number == 0 {
        enter_64_bits(&cpu, entry)?;
    }
    Ok(cpu)
}

/// Sets the registers as the 64-bit boot protocol demands.
fn enter_64_bits(cpu: &VcpuFd, entry: u64) -> Result<(), Error> {
    let mut sregs = cpu.get_sregs()?;
    let flat = kvm_segment { limit: u32::MAX, present: 1, s: 1, g: 1, ..Default::default() };
    let data = kvm_segment { selector: 0x18, type_: 3, db: 1, ..flat };
    sregs.cs = kvm_segment { selector: 0x10, type_: 0xb, l: 1, ..flat };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    let limit = u16::try_from(size_of_val(&boot::SEGMENTS))? - 1;
    sregs.gdt = kvm_dtable { base: boot::GDT, limit, ..Default::default() };
    sregs.cr3 = boot::PAGE_TABLES;
    sregs.cr4 |= 1 << 5; // PAE
    sregs.cr0 |= 1 << 31 | 1; // PG, PE
    sregs.efer |= 1 << 10 | 1 << 8; // LMA, LME
    cpu.set_sregs(&sregs)?;
    let regs = kvm_regs { rip: entry, rsi: boot::ZERO_PAGE, rflags: 2, ..Default::default() };
    Ok(cpu.set_regs(&regs)?)
}

/// Runs a processor until the guest resets the machine. Returns an error if the guest dies.
pub fn run(mut cpu: VcpuFd, machine: &Machine) -> Result<(), Error> {
    loop {
        match cpu.run() {
            Ok(VcpuExit::IoOut(KEYBOARD, [RESET])) => return Ok(()),
            Ok(VcpuExit::IoOut(port, bytes)) => port_write(machine, port, bytes),
            Ok(VcpuExit::IoIn(port, bytes)) => port_read(machine, port, bytes),
            Ok(VcpuExit::MmioWrite(address, bytes)) => {
                lock(&machine.bus).device.memory_write(address, bytes);
            }
            Ok(VcpuExit::MmioRead(address, bytes)) => {
                lock(&machine.bus).device.memory_read(address, bytes);
            }
            Ok(exit) => return Err(format!("stopped: {exit:?}").into()),
            // KVM returns EAGAIN when a processor that slept until its start is started.
            Err(error) => match Errno::from_raw_os_error(error.errno()) {
                Errno::AGAIN | Errno::INTR => {}
                errno => return Err(format!("KVM_RUN: {errno}").into()),
            },
        }
    }
}

fn port_write(machine: &Machine, port: u16, bytes: &[u8]) {
    match port {
        0x3f8..0x400 => lock(&machine.serial).write(port - 0x3f8, bytes),
        0xcf8..0xd00 => lock(&machine.bus).write(port - 0xcf8, bytes),
        _ => {}
    }
}

fn port_read(machine: &Machine, port: u16, bytes: &mut [u8]) {
    bytes.fill(0xff);
    match port {
        0x3f8..0x400 => lock(&machine.serial).read(port - 0x3f8, bytes),
        0xcf8..0xd00 => lock(&machine.bus).read(port - 0xcf8, bytes),
        KEYBOARD => bytes.fill(0), // Ready for a command, which may be RESET.
        _ => {}
    }
}
