//! The tests that need a kernel. To add one, add a row to [`ROWS`]: a name, and a command that the
//! guest's shell runs. Exit status 0 means passed. A test that one command in one guest cannot
//! express is a function in [`CHECKS`].

use super::answers;
use super::commands::*;
use crate::clients::Client;
use crate::error::Result;
use crate::lab::cache::Cache;
use crate::lab::device::Kind::{self, Edu, Igb, Nvme, Virtio, Xhci};
use crate::lab::guest::Core::{self, C, Rust};
use crate::lab::kernel::Series::{self, V6_1, V6_12, V7_2, V7_3, V7_3Debug, V7_3Kcsan};
use crate::lab::start::Started;
use crate::{book, demo, emulated, package, vmm};

/// When a row runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In every run.
    Always,
    /// With `--long`: more kernels, more to download.
    Long,
}

/// A row: runs once for each of its kernels and cores.
#[derive(Debug)]
pub struct Row {
    /// The subject of the row.
    pub name: &'static str,
    /// When the row runs.
    pub when: When,
    /// The kernels.
    pub kernels: &'static [Series],
    /// The vfio-pci-core to load.
    pub cores: &'static [Core],
    /// The devices.
    pub devices: &'static [Kind],
    /// Size in MiB of the file behind each NVMe disk, if a disk must keep its data.
    pub disk: Option<u64>,
    /// Virtual processors.
    pub cpus: u32,
    /// True if VFIO has character devices, which no stock kernel of Debian has.
    pub cdev: bool,
    /// The client from another project that the row tests.
    pub client: Option<Client>,
    /// True if the guest runs the client's small VMM, with a guest of its own.
    pub vmm: bool,
    /// The time limit in seconds.
    pub seconds: u64,
    /// Parts of lines of the kernel's log that the row provokes in Linux itself.
    pub provoked: &'static [&'static str],
    /// True if the guest loads a vendor's variant driver after its devices are bound to vfio-pci.
    pub variant: bool,
    /// Parameters of modules, as `module.parameter=value`.
    pub parameters: &'static [&'static str],
    /// Additions to the kernel's command line.
    pub append: &'static [&'static str],
    /// A line for the guest's shell. Exit status 0 means passed. The test program is in the guest's
    /// PATH, and VFIO_IRQ_NVME and similar variables hold the devices' addresses.
    pub command: &'static str,
}

/// A test that boots its guests itself, without others beside them.
pub struct Check {
    /// The title, by which `--only` selects the test.
    pub title: &'static str,
    /// When the test runs.
    pub when: When,
    /// Runs the test; the flag is `--long`. Returns its remarks.
    pub check: fn(&Cache, bool) -> Result<Started<Vec<String>>>,
}

/// All checks.
pub const CHECKS: &[Check] = &[
    Check {
        title: "lab 7.3 both cores answer a long table of requests alike",
        when: When::Always,
        check: |cache, _| answers::check(cache, V7_3),
    },
    Check {
        title: "lab 7.3 Rust demo",
        when: When::Always,
        check: |cache, _| demo::check(cache, V7_3, Rust),
    },
    Check {
        title: "lab 7.3 vfio-user an emulated NVMe disk keeps its data over a reboot",
        when: When::Always,
        check: |cache, _| emulated::check(cache, V7_3),
    },
    Check {
        title: "lab 7.3 vfio-user an emulated NVMe disk without shared memory survives resets under I/O",
        when: When::Always,
        check: |cache, long| emulated::reset::check(cache, V7_3, if long { 20 } else { 5 }),
    },
    Check {
        title: "the book: made, and its links lead somewhere",
        when: When::Long,
        check: |cache, _| book::check(cache),
    },
    Check {
        title: "packages for Debian: built, and lintian finds nothing",
        when: When::Always,
        check: |cache, _| package::check(cache),
    },
    Check {
        title: "packages on a Debian 13: installed, used, upgraded, removed",
        when: When::Long,
        check: |cache, _| package::life(cache),
    },
    Check {
        title: "the book's quick starts, on a Debian 13 from nothing",
        when: When::Long,
        check: |cache, _| package::quick_starts(cache),
    },
];

/// The defaults of a row.
const ROW: Row = Row {
    name: "",
    when: When::Always,
    kernels: &[V7_3],
    cores: &[C, Rust],
    devices: &[Nvme],
    disk: None,
    cpus: 1,
    cdev: false,
    variant: false,
    vmm: false,
    seconds: 400,
    provoked: &[],
    client: None,
    parameters: &[],
    append: &[],
    command: "false",
};

/// A selftest creates a virtual function, which vfio-pci must allow.
const SELFTESTS_SRIOV: &[&str] = &["vfio-pci.enable_sriov=1"];

/// Selftests map huge pages of both sizes, and skip themselves without them.
const SELFTESTS_PAGES: &[&str] = &["hugepagesz=1G hugepages=1 hugepagesz=2M hugepages=8"];

/// If a file of /proc/irq/N could not be made, Linux warns when it removes the file.
const GENIRQ_WARNS: &[&str] = &["WARNING: at remove_proc_entry", "Call Trace:"];

/// edu cannot mask its MSI. If it raises one while the vector is detached, interrupt remapping has no
/// entry for the message and stops it.
const REMAPPING_STOPS: &[&str] = &["Present field in the IRTE entry is clear"];

/// All rows. The longest come first, because rows run side by side.
pub const ROWS: &[Row] = &[
    Row { name: "the contract's rules, NVMe", command: CASES_NVME, ..ROW },
    Row { name: "the contract's rules, igb", devices: &[Igb], command: CASES_IGB, ..ROW },
    Row { name: "the contract's rules, xhci", devices: &[Xhci], command: CASES_XHCI, ..ROW },
    Row { name: "the contract's rules, edu", devices: &[Edu], command: CASES_EDU, ..ROW },
    Row { name: "the contract's rules, virtio", devices: &[Virtio], command: CASES_VIRTIO, ..ROW },
    Row {
        name: "conform: what user space relies on holds on Linux's core, everything on the Rust core",
        devices: &[Nvme, Igb, Edu, Xhci, Virtio],
        command: CONFORM,
        ..ROW
    },
    Row {
        name: "sequences of requests, interrupts and resets do what the contract's model does",
        devices: &[Igb, Edu, Xhci, Nvme, Virtio],
        command: DIFFERENTIAL,
        ..ROW
    },
    Row {
        name: "storms: requests, resets, power, processors, kill and unbind at once",
        provoked: REMAPPING_STOPS,
        cores: &[Rust],
        cpus: 2,
        devices: &[Igb, Edu, Nvme],
        command: STORM,
        ..ROW
    },
    Row {
        name: "storms on a debug kernel: KASAN, lockdep, kmemleak",
        provoked: REMAPPING_STOPS,
        when: When::Long,
        seconds: 1800,
        kernels: &[V7_3Debug],
        cores: &[Rust],
        cpus: 2,
        devices: &[Igb, Edu, Nvme],
        command: STORM,
        ..ROW
    },
    Row {
        name: "storms under KCSAN",
        provoked: REMAPPING_STOPS,
        when: When::Long,
        seconds: 1800,
        kernels: &[V7_3Kcsan],
        cores: &[Rust],
        cpus: 2,
        devices: &[Igb, Edu, Nvme],
        command: STORM,
        ..ROW
    },
    Row {
        name: "every allocation of a request fails in turn, on a debug kernel",
        when: When::Long,
        provoked: GENIRQ_WARNS,
        seconds: 1800,
        kernels: &[V7_3Debug],
        cores: &[Rust],
        devices: &[Igb, Nvme],
        command: FAULTS,
        ..ROW
    },
    Row {
        name: "conform on a debug kernel: KASAN, lockdep, kmemleak",
        when: When::Long,
        seconds: 1800,
        kernels: &[V7_3Debug],
        command: CONFORM,
        ..ROW
    },
    Row {
        name: "conform on older kernels: what user space relies on holds",
        when: When::Long,
        kernels: &[V6_1, V6_12],
        cores: &[C],
        devices: &[Nvme, Igb, Edu, Xhci, Virtio],
        command: CONFORM,
        ..ROW
    },
    Row {
        name: "the contract's rules where interrupts are offered to KVM",
        cores: &[Rust],
        parameters: &["vfio_pci_core.always_offer_irq_bypass=1"],
        command: CASES_NVME,
        ..ROW
    },
    Row {
        name: "random requests under interrupts: nothing lost, nothing leaked",
        command: STRESS,
        ..ROW
    },
    Row {
        name: "Linux's own selftests of VFIO",
        devices: &[Igb, Nvme],
        client: Some(Client::Selftests),
        parameters: SELFTESTS_SRIOV,
        append: SELFTESTS_PAGES,
        command: Client::Selftests.command(),
        ..ROW
    },
    Row {
        name: "DPDK receives with interrupts, a vector for each queue",
        devices: &[Igb, Igb],
        cpus: 2,
        client: Some(Client::Dpdk),
        command: Client::Dpdk.command(),
        ..ROW
    },
    // In long runs only: one boot of twenty ended with a processor's Shutdown, not explained yet.
    Row {
        name: "a small VMM on rust-vmm's crates: a guest uses 3 of 65 vectors",
        when: When::Long,
        disk: Some(64),
        cpus: 2,
        vmm: true,
        command: vmm::HOST,
        ..ROW
    },
    Row {
        name: "a small VMM on rust-vmm's crates on older kernels: a guest uses 3 of 65 vectors",
        when: When::Long,
        kernels: &[V6_1, V6_12],
        cores: &[C],
        disk: Some(64),
        cpus: 2,
        vmm: true,
        command: vmm::HOST,
        ..ROW
    },
    Row { name: "processes killed under interrupts: nothing leaked", command: KILLED, ..ROW },
    Row {
        name: "what once went wrong stays right",
        devices: &[Nvme, Nvme],
        command: REGRESSIONS,
        ..ROW
    },
    Row {
        name: "what once went wrong stays right where INTx cannot be masked",
        devices: &[Nvme, Nvme],
        parameters: &["vfio_pci.nointxmask=1"],
        command: REGRESSIONS,
        ..ROW
    },
    Row {
        name: "DisINTx of a device on a shared line survives MSI",
        // The first and the last device share an INTx: four slots lie between.
        devices: &[Edu, Xhci, Xhci, Xhci, Edu],
        command: SHARED_LINE,
        ..ROW
    },
    Row {
        name: "MSI vectors keep their message when the first one goes",
        cores: &[Rust],
        devices: &[Xhci],
        command: MSI_MESSAGE,
        ..ROW
    },
    Row {
        name: "a repair keeps the affinity of an interrupt that is not remapped",
        append: &["intremap=off"],
        parameters: &["vfio_iommu_type1.allow_unsafe_interrupts=1"],
        cpus: 2,
        command: AFFINITY,
        ..ROW
    },
    Row {
        name: "a machine with no interrupt left",
        devices: &[Nvme, Nvme, Nvme, Nvme, Nvme],
        command: SHORTAGE,
        ..ROW
    },
    Row {
        name: "a machine with one MSI for each device",
        devices: &[Xhci],
        // Without interrupt remapping, Linux gives a device one MSI, and VFIO must be told to
        // accept an unsafe IOMMU.
        append: &["intremap=off"],
        parameters: &["vfio_iommu_type1.allow_unsafe_interrupts=1"],
        command: TOO_FEW,
        ..ROW
    },
    Row {
        name: "an open file of debugfs keeps the module",
        cores: &[Rust],
        command: DEBUGFS_KEEPS,
        ..ROW
    },
    Row { name: "the command: list, info, bind, unbind, bench, watch", command: COMMAND, ..ROW },
    Row {
        name: "a vendor's variant driver has the core's interrupts",
        devices: &[Virtio],
        variant: true,
        command: VARIANT,
        ..ROW
    },
    Row { name: "an unbind waits for a user under load", command: UNBIND, ..ROW },
    Row { name: "a request that fails in the middle", command: ATOMICITY, ..ROW },
    Row {
        name: "every device binds, in a group of its own",
        devices: &[Nvme, Edu, Xhci, Igb],
        command: GROUPS,
        ..ROW
    },
    Row {
        name: "virtual functions are kept for user space",
        devices: &[Igb],
        parameters: &["vfio_pci.enable_sriov=1"],
        command: SRIOV,
        ..ROW
    },
    Row {
        name: "virtual functions are refused unless allowed",
        devices: &[Igb],
        command: NO_SRIOV,
        ..ROW
    },
    Row {
        name: "the modules unload when their devices are gone",
        devices: &[Nvme, Edu],
        command: UNLOAD,
        ..ROW
    },
    Row {
        name: "the contract's rules on sid's kernel, NVMe",
        when: When::Long,
        kernels: &[V7_2],
        command: CASES_NVME,
        ..ROW
    },
    Row {
        name: "the contract's rules on sid's kernel, igb",
        when: When::Long,
        kernels: &[V7_2],
        devices: &[Igb],
        command: CASES_IGB,
        ..ROW
    },
    Row {
        name: "random requests on sid's kernel",
        when: When::Long,
        kernels: &[V7_2],
        cores: &[Rust],
        command: STRESS,
        ..ROW
    },
    Row {
        name: "the client: a request that fails changes nothing; INTx, REQ",
        command: CLIENT,
        ..ROW
    },
    Row {
        name: "the NVMe driver in user space: 63 queues added under load, nothing lost",
        command: QUEUES,
        ..ROW
    },
    Row {
        name: "the NVMe driver in user space: what eight queues write they read back",
        disk: Some(64),
        command: "vfio-irq-nvme $VFIO_IRQ_NVME 8 verify",
        ..ROW
    },
    Row {
        name: "the NVMe driver in user space on older kernels: 63 queues added under load, nothing lost",
        when: When::Long,
        kernels: &[V6_1, V6_12],
        cores: &[C],
        command: QUEUES,
        ..ROW
    },
    Row {
        name: "the demo on real VFIO: 24 queues, the old way loses interrupts, the new way none",
        cpus: 2,
        command: DEMO,
        ..ROW
    },
    Row {
        name: "the demo on older kernels: 24 queues, the old way loses interrupts, the new way none",
        when: When::Long,
        kernels: &[V6_1, V6_12],
        cores: &[C],
        cpus: 2,
        command: DEMO,
        ..ROW
    },
    Row {
        name: "8 devices use 4 of 65 vectors: 32 host interrupts, not 520",
        devices: &[Nvme; 8],
        cpus: 4,
        command: HOST_INTERRUPTS,
        ..ROW
    },
    Row {
        name: "the client through a character device and an iommufd (VFIO built with CONFIG_VFIO_DEVICE_CDEV, which Debian leaves out)",
        when: When::Long,
        cdev: true,
        command: CLIENT_CDEV,
        ..ROW
    },
    Row {
        name: "Linux's own selftests of VFIO through a character device and an iommufd",
        when: When::Long,
        devices: &[Igb, Nvme],
        cdev: true,
        client: Some(Client::Selftests),
        parameters: SELFTESTS_SRIOV,
        append: SELFTESTS_PAGES,
        command: Client::Selftests.command(),
        ..ROW
    },
    Row {
        name: "the command through a character device and an iommufd",
        when: When::Long,
        cdev: true,
        cpus: 2,
        command: COMMAND_CDEV,
        ..ROW
    },
    Row {
        name: "the client on older kernels: a request that fails changes nothing; INTx, REQ",
        when: When::Long,
        kernels: &[V6_1, V6_12],
        cores: &[C],
        command: CLIENT,
        ..ROW
    },
    Row {
        name: "every device binds on older kernels",
        when: When::Long,
        kernels: &[V6_1, V6_12],
        cores: &[C],
        devices: &[Nvme, Edu, Xhci, Igb],
        command: GROUPS,
        ..ROW
    },
];
