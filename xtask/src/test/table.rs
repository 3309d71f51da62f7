//! The tests that need a kernel: one row each.

use super::commands::*;
use crate::clients::Client;
use crate::lab::device::Kind::{self, Edu, Igb, Nvme, Xhci};
use crate::lab::guest::Driver::{self, VfioPci, VfioPciRs};
use crate::lab::kernel::Series::{self, V6_1, V6_12, V7_2, V7_3};

/// When a row runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In every run.
    Always,
    /// With `--long`: more kernels, more to download.
    Long,
}

/// A row: runs once for each of its kernels and drivers.
#[derive(Debug)]
pub struct Row {
    /// What it is about.
    pub name: &'static str,
    /// When it runs.
    pub when: When,
    /// The kernels.
    pub kernels: &'static [Series],
    /// The drivers that get the devices.
    pub drivers: &'static [Driver],
    /// The devices.
    pub devices: &'static [Kind],
    /// Size in MiB of the file behind each NVMe disk, where one must remember.
    pub disk: Option<u64>,
    /// Virtual processors.
    pub cpus: u32,
    /// Whether VFIO has character devices, which no stock kernel of Debian has.
    pub cdev: bool,
    /// The client from another project that the row is about.
    pub client: Option<Client>,
    /// Parameters of modules, as `module.parameter=value`.
    pub parameters: &'static [&'static str],
    /// More for the kernel's command line.
    pub append: &'static [&'static str],
    /// A line for the guest's shell, whose exit status 0 means passed. The test program is in its PATH,
    /// the devices' addresses are in VFIO_IRQ_NVME and so on.
    pub command: &'static str,
}

/// What most rows have.
const ROW: Row = Row {
    name: "",
    when: When::Always,
    kernels: &[V7_3],
    drivers: &[VfioPci, VfioPciRs],
    devices: &[Nvme],
    disk: None,
    cpus: 1,
    cdev: false,
    client: None,
    parameters: &[],
    append: &[],
    command: "false",
};

/// A selftest makes a virtual function, and vfio-pci has to allow it.
const SELFTESTS_SRIOV: &[&str] = &["vfio-pci.enable_sriov=1"];

/// Selftests map huge pages of both sizes, and skip themselves without them.
const SELFTESTS_PAGES: &[&str] = &["hugepagesz=1G hugepages=1 hugepagesz=2M hugepages=8"];

/// Every row. The longest come first: they run side by side.
pub const ROWS: &[Row] = &[
    Row { name: "the contract's rules, NVMe", command: CASES_NVME, ..ROW },
    Row { name: "the contract's rules, igb", devices: &[Igb], command: CASES_IGB, ..ROW },
    Row { name: "the contract's rules, xhci", devices: &[Xhci], command: CASES_XHCI, ..ROW },
    Row { name: "the contract's rules, edu", devices: &[Edu], command: CASES_EDU, ..ROW },
    Row {
        name: "the contract's rules where a detach frees",
        drivers: &[VfioPciRs],
        parameters: &["vfio_pci_rs.free_on_detach=1"],
        command: CASES_NVME,
        ..ROW
    },
    Row {
        name: "the contract's rules where interrupts are offered to KVM",
        drivers: &[VfioPciRs],
        parameters: &["vfio_pci_rs.always_offer_bypass=1"],
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
        drivers: &[VfioPci],
        devices: &[Igb, Nvme],
        client: Some(Client::Selftests),
        parameters: SELFTESTS_SRIOV,
        append: SELFTESTS_PAGES,
        command: Client::Selftests.command(),
        ..ROW
    },
    Row {
        name: "DPDK receives with interrupts, a vector for each queue",
        drivers: &[VfioPci],
        devices: &[Igb, Igb],
        cpus: 2,
        client: Some(Client::Dpdk),
        command: Client::Dpdk.command(),
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
        name: "what once went wrong stays right where the line cannot be masked",
        drivers: &[VfioPciRs],
        devices: &[Nvme, Nvme],
        parameters: &["vfio_pci_rs.nointxmask=1"],
        command: REGRESSIONS,
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
        // Without the remapping of interrupts Linux gives a device one MSI, and VFIO wants to be told
        // that it may work at all.
        append: &["intremap=off"],
        parameters: &["vfio_iommu_type1.allow_unsafe_interrupts=1"],
        command: TOO_FEW,
        ..ROW
    },
    Row {
        name: "an open file of debugfs keeps the module",
        drivers: &[VfioPciRs],
        command: DEBUGFS_KEEPS,
        ..ROW
    },
    Row { name: "the command: list, info, bind, unbind, bench, watch", command: COMMAND, ..ROW },
    Row {
        name: "an unbind waits for a user under load",
        drivers: &[VfioPciRs],
        command: UNBIND,
        ..ROW
    },
    Row {
        name: "bad input is answered as Linux answers it",
        drivers: &[VfioPciRs],
        devices: &[Nvme, Edu, Xhci, Igb],
        command: ANSWERS,
        ..ROW
    },
    Row { name: "a request that fails in the middle", command: ATOMICITY, ..ROW },
    Row {
        name: "every device binds, in a group of its own",
        devices: &[Nvme, Edu, Xhci, Igb],
        command: GROUPS,
        ..ROW
    },
    Row {
        name: "virtual functions are kept for user space",
        drivers: &[VfioPciRs],
        devices: &[Igb],
        parameters: &["vfio_pci_rs.enable_sriov=1"],
        command: SRIOV,
        ..ROW
    },
    Row {
        name: "virtual functions are refused unless allowed",
        drivers: &[VfioPciRs],
        devices: &[Igb],
        command: NO_SRIOV,
        ..ROW
    },
    Row {
        name: "the module unloads when its devices are gone",
        drivers: &[VfioPciRs],
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
        drivers: &[VfioPciRs],
        command: STRESS,
        ..ROW
    },
    Row {
        name: "the client: vectors added one by one, nothing lost; failures; INTx, REQ",
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
        drivers: &[VfioPci],
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
        drivers: &[VfioPci],
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
        drivers: &[VfioPci],
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
        name: "the client on older kernels: vectors added one by one, nothing lost; failures; INTx, REQ",
        when: When::Long,
        kernels: &[V6_1, V6_12],
        drivers: &[VfioPci],
        command: CLIENT,
        ..ROW
    },
    Row {
        name: "every device binds on older kernels",
        when: When::Long,
        kernels: &[V6_1, V6_12],
        drivers: &[VfioPci],
        devices: &[Nvme, Edu, Xhci, Igb],
        command: GROUPS,
        ..ROW
    },
];
