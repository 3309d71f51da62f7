//! A small VMM that passes one PCI device through, on rust-vmm's crates and this library.
//!
//! ```text
//! vfio-irq-vmm KERNEL INITRD BDF [WORDS OF THE KERNEL'S COMMAND LINE]
//! ```
//!
//! KERNEL is a bzImage. The guest has two processors, 512 MiB, a serial port on standard input
//! and output, and the device BDF, which must be bound to vfio-pci and have MSI-X. The guest ends
//! the VMM with a reset through the keyboard controller (`reboot=k`, which is set). INTx and MSI
//! are not passed through.
//!
//! | file | what |
//! |---|---|
//! | `main.rs` | the VM, its threads |
//! | `boot.rs` | guest memory, the kernel, the tables that Linux reads |
//! | `vcpus.rs` | virtual processors, and their exits to user space |
//! | `pci.rs` | configuration space: ports 0xCF8 and 0xCFC, a host bridge, the device |
//! | `device.rs` | the device: BARs, configuration space, MSI-X. **Read this one first** |
//! | `serial.rs` | the serial port |
//! | `sys.rs` | all unsafe code |

mod boot;
mod device;
mod pci;
mod serial;
mod sys;
mod vcpus;

use device::Device;
use kvm_bindings::{KVM_IRQCHIP_IOAPIC, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Kvm, VmFd};
use pci::Bus;
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::{path::Path, process::ExitCode, thread};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioOps};
use vfio_irq::kvm::{KvmRoutes, RoutingEntry};
use vfio_irq::{Index, NoResize, Vectors};
use vm_memory::{GuestAddress, GuestMemoryBackend};

type Error = Box<dyn std::error::Error + Send + Sync>;

const CPUS: u8 = 2;
const MEMORY: usize = 512 << 20;
/// ACPI is off, so that Linux reads the MP table. A kernel that kexec starts would then find x2APIC
/// mode enabled, and take its first interrupt before it has a driver for that mode.
const COMMAND_LINE: &str =
    "console=ttyS0 acpi=off pci=conf1 reboot=k panic=-1 no_timer_check nox2apic";

/// What the exits of all processors share.
struct Machine {
    bus: Mutex<Bus>,
    serial: Mutex<serial::Port>,
}

/// Locks a part of the machine. A thread that panicked ends the VMM, so that poison is harmless.
fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Error> {
    let [kernel, initrd, bdf, words @ ..] = arguments else {
        return Err("usage: vfio-irq-vmm KERNEL INITRD BDF [COMMAND LINE]".into());
    };
    let kvm = Kvm::new()?;
    let vm = Arc::new(kvm.create_vm()?);
    vm.set_tss_address(0xfffb_d000)?; // Three pages that only Intel's processors need.
    vm.create_irq_chip()?;
    vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() })?;

    let memory = boot::memory(MEMORY)?;
    let region = memory.find_region(GuestAddress(0)).ok_or("there is no memory")?;
    sys::map(&vm, 0, 0, region)?;
    let command_line = format!("{COMMAND_LINE} {}", words.join(" "));
    let entry = boot::load(memory, Path::new(kernel), Path::new(initrd), &command_line, CPUS)?;

    let device = open(bdf, memory, &vm)?;
    let events = device.table.as_fd().try_clone_to_owned()?;
    let serial = serial::Port::new(&vm)?;
    let bus = Mutex::new(Bus::new(device));
    let machine = Arc::new(Machine { bus, serial: Mutex::new(serial) });

    let (end, ended) = mpsc::channel();
    let cpus = (0..CPUS).map(|number| vcpus::create(&kvm, &vm, number, entry));
    for (number, cpu) in cpus.collect::<Result<Vec<_>, _>>()?.into_iter().enumerate() {
        let (machine, end) = (Arc::clone(&machine), end.clone());
        let named = move |error| format!("processor {number}: {error}").into();
        thread::spawn(move || end.send(vcpus::run(cpu, &machine).map_err(named)));
    }
    let input = Arc::clone(&machine);
    thread::spawn(move || serial::read_input(&input.serial));
    let interrupts = Arc::clone(&machine);
    thread::spawn(move || end.send(deliver(&interrupts, events.as_fd())));

    // The other threads end with the process, and the kernel takes the device back.
    let outcome = ended.recv()?;
    lock(&machine.bus).device.table.reset()?;
    outcome
}

/// Opens the device in a type 1 container, which maps all of the guest's memory for its DMA.
fn open(bdf: &str, memory: &'static boot::Memory, vm: &Arc<VmFd>) -> Result<Device, Error> {
    let container = Arc::new(VfioContainer::new(None)?);
    let ops: Arc<dyn VfioOps> = Arc::clone(&container) as _;
    let path = Path::new("/sys/bus/pci/devices").join(bdf);
    let device = Arc::new(VfioDevice::new(&path, ops, true)?);
    // After the device: the first device sets the container's type of IOMMU.
    sys::map_dma(&container, memory)?;

    // A kernel before 6.5 cannot add a vector. Only there, the first enable reserves 32.
    let policy = NoResize::ReserveAll { most: 32 };
    let vectors = Vectors::with_policy(Arc::clone(&device), Index::Msix, policy)?;
    eprintln!("{bdf}: {}", vectors.capabilities());
    let routes = KvmRoutes::new(Arc::clone(vm), pins(), 24..4096);
    Device::new(device, vectors, routes, vm)
}

/// Returns the routes that KVM has at first, which each new table of routes must repeat.
fn pins() -> Vec<RoutingEntry> {
    // KVM's chips 0 and 1 are the PICs, with eight pins each.
    let pic = |gsi| RoutingEntry::Pin { gsi, chip: gsi / 8, pin: gsi % 8 };
    let ioapic = |gsi| RoutingEntry::Pin { gsi, chip: KVM_IRQCHIP_IOAPIC, pin: gsi };
    (0..16).map(pic).chain((0..24).map(ioapic)).collect()
}

/// Sends the messages of vectors that have no irqfd: vectors without a GSI, and vectors whose
/// route KVM refused.
fn deliver(machine: &Machine, events: BorrowedFd<'_>) -> Result<(), Error> {
    loop {
        poll(&mut [PollFd::new(&events, PollFlags::IN)], None)?;
        lock(&machine.bus).device.handle_events();
    }
}
