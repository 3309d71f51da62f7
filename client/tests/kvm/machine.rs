//! A VM with one processor that never runs, and a table on a simulated device.

use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_irq::kvm::{KvmRoutes, Vm};
use vfio_irq::msix::MsixTable;
use vfio_irq::sim::{IrqCaps, Simulated, SimulatedVm};
use vfio_irq::{Index, Vectors};

/// Returns the reason why this machine cannot create a VM, or `None` if it can.
pub fn missing() -> Option<String> {
    let vm = Kvm::new().and_then(|kvm| kvm.create_vm());
    vm.err().map(|error| format!("/dev/kvm cannot be used: {error}"))
}

pub const ENABLE: u16 = 0x8000;
pub const FUNCTION_MASK: u16 = 0x4000;

pub type Table<V> = MsixTable<Arc<Simulated>, KvmRoutes<V>>;

/// Returns a device with this many vectors, and its table on a VM.
pub fn table<V: Vm>(vm: V, vectors: u32, gsis: u32) -> (Arc<Simulated>, Table<V>) {
    let shape = IrqCaps { msix: vectors, interrupts: vectors, ..IrqCaps::default() };
    let device = Arc::new(Simulated::with(shape));
    let routes = KvmRoutes::new(vm, Vec::new(), 24..24 + gsis);
    let vectors = Vectors::open(Arc::clone(&device), Index::Msix).unwrap();
    (device, MsixTable::new(vectors, routes).unwrap())
}

/// Returns a simulated VM, a device with this many vectors, and its table with MSI-X enabled.
pub fn opened(
    vectors: u32,
    gsis: u32,
) -> (Arc<SimulatedVm>, Arc<Simulated>, Table<Arc<SimulatedVm>>) {
    let vm = Arc::new(SimulatedVm::new());
    let (device, mut table) = table(Arc::clone(&vm), vectors, gsis);
    table.set_control(ENABLE).unwrap();
    (vm, device, table)
}

/// Writes an entry and unmasks it, as a Linux guest does. The entry is masked during the writes.
pub fn unmask<V: Vm>(table: &mut Table<V>, number: u32, vector: u8) {
    let at = u64::from(number) * 16;
    table.write(at, &0xfee0_0000_u64.to_le_bytes()).unwrap();
    table.write(at + 8, &u32::from(vector).to_le_bytes()).unwrap();
    set_mask(table, number, false);
}

pub fn set_mask<V: Vm>(table: &mut Table<V>, number: u32, masked: bool) {
    table.write(u64::from(number) * 16 + 12, &u32::from(masked).to_le_bytes()).unwrap();
}

pub fn is_pending<V: Vm>(table: &mut Table<V>, number: u32) -> bool {
    let mut bytes = [0; 8];
    table.read_pending(u64::from(number / 64) * 8, &mut bytes);
    u64::from_le_bytes(bytes) >> (number % 64) & 1 == 1
}

/// A VM of KVM, and the interrupt controller of its processor.
pub struct Machine {
    pub vm: Arc<VmFd>,
    cpu: VcpuFd,
}

const SPURIOUS: usize = 0xf0;
/// Bit 10 of IA32_APIC_BASE.
const X2APIC: u64 = 1 << 10;
const REQUESTS: usize = 0x200;

impl Machine {
    pub fn new() -> Self {
        let vm = Arc::new(Kvm::new().unwrap().create_vm().unwrap());
        vm.create_irq_chip().unwrap();
        Self::with_processor(&vm, 0)
    }

    /// Returns a processor of this VM.
    pub fn with_processor(vm: &Arc<VmFd>, id: u64) -> Self {
        let cpu = vm.create_vcpu(id).unwrap();
        Self { vm: Arc::clone(vm), cpu }.with_apic_enabled()
    }

    /// Software enable: without it, the APIC accepts no interrupt.
    fn with_apic_enabled(self) -> Self {
        let mut lapic = self.cpu.get_lapic().unwrap();
        lapic.regs[SPURIOUS + 1] |= 1;
        self.cpu.set_lapic(&lapic).unwrap();
        self
    }

    /// Puts the APIC into x2APIC mode, in which its ID has 32 bits.
    pub fn in_x2apic_mode(self) -> Self {
        let all = Kvm::new().unwrap().get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap();
        self.cpu.set_cpuid2(&all).unwrap();
        let mut registers = self.cpu.get_sregs().unwrap();
        registers.apic_base |= X2APIC;
        self.cpu.set_sregs(&registers).unwrap();
        self.with_apic_enabled()
    }

    fn requested(&self, vector: u8) -> bool {
        let lapic = self.cpu.get_lapic().unwrap();
        let at = REQUESTS + usize::from(vector / 32) * 16 + usize::from(vector % 32 / 8);
        lapic.regs[at] >> (vector % 8) & 1 == 1
    }

    /// Returns true if an interrupt has arrived, and clears it.
    pub fn take(&self, vector: u8) -> bool {
        let there = self.requested(vector);
        if there {
            let mut lapic = self.cpu.get_lapic().unwrap();
            let at = REQUESTS + usize::from(vector / 32) * 16 + usize::from(vector % 32 / 8);
            lapic.regs[at] &= !(1 << (vector % 8));
            self.cpu.set_lapic(&lapic).unwrap();
        }
        there
    }

    /// Waits for an interrupt for at most one second, and clears it.
    pub fn wait(&self, vector: u8) -> bool {
        let since = Instant::now();
        while !self.requested(vector) && since.elapsed() < Duration::from_secs(1) {
            std::thread::yield_now();
        }
        self.take(vector)
    }
}
