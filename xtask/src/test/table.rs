//! The tests that need a kernel: one row each.

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
    /// A line for the guest's shell, whose exit status 0 means passed. The test program is in its PATH,
    /// the devices' addresses are in VFIO_IRQ_NVME and so on.
    pub command: &'static str,
}

/// Every row.
pub const ROWS: &[Row] = &[
    Row {
        name: "every device binds, in a group of its own",
        when: When::Always,
        kernels: &[V7_3],
        drivers: &[VfioPci, VfioPciRs],
        devices: &[Nvme, Edu, Xhci, Igb],
        command: "for device in $BIND; do readlink /sys/bus/pci/devices/$device/iommu_group; done | sort -u | wc -l | grep -qx 4",
    },
    Row {
        name: "every device binds on older kernels",
        when: When::Long,
        kernels: &[V6_1, V6_12],
        drivers: &[VfioPci],
        devices: &[Nvme, Edu, Xhci, Igb],
        command: "for device in $BIND; do readlink /sys/bus/pci/devices/$device/iommu_group; done | sort -u | wc -l | grep -qx 4",
    },
    Row {
        name: "a request that fails in the middle",
        when: When::Always,
        kernels: &[V7_3],
        drivers: &[VfioPci, VfioPciRs],
        devices: &[Nvme],
        command: "vfio-irq-conformance atomicity --bdf $VFIO_IRQ_NVME",
    },
    Row {
        name: "a request that fails in the middle, sid's kernel",
        when: When::Long,
        kernels: &[V7_2],
        drivers: &[VfioPci, VfioPciRs],
        devices: &[Nvme],
        command: "vfio-irq-conformance atomicity --bdf $VFIO_IRQ_NVME",
    },
    Row {
        name: "the module unloads when its devices are gone",
        when: When::Always,
        kernels: &[V7_3],
        drivers: &[VfioPciRs],
        devices: &[Nvme, Edu],
        command: "for device in $BIND; do echo $device >/sys/bus/pci/drivers/vfio-pci-rs/unbind; done; rmmod vfio_pci_rs && ! grep -q vfio_pci_rs /proc/modules",
    },
];
