//! The devices that a guest can be given: devices that QEMU emulates, chosen for their interrupts.

use std::fmt;

use crate::error::{Error, Result};

/// A kind of PCI device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// NVMe controller: 65 MSI-X vectors, real queues
    Nvme,
    /// NVMe controller: 2048 MSI-X vectors, the most that there can be
    Nvme2048,
    /// QEMU's teaching device: one MSI that a write to a register raises
    Edu,
    /// USB controller: several MSI vectors
    Xhci,
    /// Network card: MSI-X, MSI and SR-IOV; all of a guest's are on one network
    Igb,
    /// Paravirtual network card: MSI-X, and a variant driver of VFIO in Linux
    Virtio,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nvme => "nvme",
            Self::Nvme2048 => "nvme2048",
            Self::Edu => "edu",
            Self::Xhci => "xhci",
            Self::Igb => "igb",
            Self::Virtio => "virtio",
        })
    }
}

/// Slot of the first device. It is low, because an igb's virtual functions sit 16 slots after it
/// and must still be on the root bus.
const FIRST_SLOT: usize = 4;

/// The number of slots below those of igb's virtual functions.
const SLOTS: usize = 11;

impl Kind {
    /// Returns how many slots to reserve. An igb's virtual functions fill two.
    fn slots(self) -> usize {
        if self == Self::Igb { 2 } else { 1 }
    }
}

/// A device in its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The kind of the device.
    pub kind: Kind,
    index: usize,
    slot: usize,
    /// The number of devices of its kind before it.
    nth: usize,
}

impl Device {
    /// Assigns a slot to each of `kinds`, directly on the root complex and so in a group of its
    /// own. Returns the devices.
    pub fn place(kinds: &[Kind]) -> Result<Vec<Self>> {
        let wanted: usize = kinds.iter().map(|kind| kind.slots()).sum();
        if wanted > SLOTS {
            return Err(Error::other(format!(
                "a guest has {SLOTS} slots, and these devices need {wanted} (an igb needs two)"
            )));
        }
        let nth =
            |index: usize| kinds[..index].iter().filter(|kind| **kind == kinds[index]).count();
        let slot = |index: usize| {
            FIRST_SLOT + kinds[..index].iter().map(|kind| kind.slots()).sum::<usize>()
        };
        let place = |(index, &kind)| Self { kind, index, slot: slot(index), nth: nth(index) };
        Ok(kinds.iter().enumerate().map(place).collect())
    }

    /// Returns its address in the guest.
    pub fn address(&self) -> String {
        format!("0000:00:{:02x}.0", self.slot)
    }

    /// Returns the environment variable with the address for a command in the guest.
    pub fn variable(&self) -> String {
        let name = self.kind.to_string().to_uppercase();
        if self.nth == 0 {
            format!("VFIO_IRQ_{name}")
        } else {
            format!("VFIO_IRQ_{name}{}", self.nth + 1)
        }
    }

    /// Returns QEMU's options for the device; `disk` is the file behind an NVMe namespace, empty
    /// space otherwise.
    pub fn options(&self, disk: Option<&str>) -> Vec<String> {
        let slot = format!("bus=pcie.0,addr={:#x}", self.slot);
        let id = format!("dev{}", self.index);
        let option = |name: &str, value: String| [format!("-{name}"), value];
        match self.kind {
            Kind::Nvme | Kind::Nvme2048 => {
                let vectors = if self.kind == Kind::Nvme { 65 } else { 2048 };
                let back = match disk {
                    Some(file) => format!("file={file},cache=unsafe"),
                    None => "file=null-co://,file.read-zeroes=on".to_owned(),
                };
                let drive = option("drive", format!("{back},if=none,id={id}-disk,format=raw"));
                let serial = format!("vfio-irq-{}", self.index);
                let device = format!(
                    "nvme,id={id},serial={serial},drive={id}-disk,max_ioqpairs={},msix_qsize={vectors},{slot}",
                    vectors - 1
                );
                [drive, option("device", device)].concat()
            }
            Kind::Edu => option("device", format!("edu,id={id},{slot}")).to_vec(),
            // Without a network, what it sends is sent at once. Without iommu_platform, its DMA would
            // bypass the IOMMU.
            Kind::Virtio => {
                let device =
                    format!("virtio-net-pci,id={id},disable-legacy=on,iommu_platform=on,{slot}");
                option("device", device).to_vec()
            }
            Kind::Xhci => {
                option("device", format!("nec-usb-xhci,id={id},intrs=16,msi=on,msix=off,{slot}"))
                    .to_vec()
            }
            Kind::Igb => {
                let hub = option("netdev", format!("hubport,id={id}-net,hubid=0"));
                [hub, option("device", format!("igb,id={id},netdev={id}-net,{slot}"))].concat()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, Kind};

    #[test]
    fn a_second_device_of_a_kind_has_its_own_variable() {
        let devices = Device::place(&[Kind::Nvme, Kind::Edu, Kind::Nvme]).unwrap();
        let names: Vec<String> = devices.iter().map(Device::variable).collect();
        assert_eq!(names, ["VFIO_IRQ_NVME", "VFIO_IRQ_EDU", "VFIO_IRQ_NVME2"]);
        assert_eq!(devices[2].address(), "0000:00:06.0");
    }

    #[test]
    fn an_igb_leaves_room_for_its_virtual_functions() {
        let devices = Device::place(&[Kind::Igb, Kind::Igb, Kind::Nvme]).unwrap();
        let addresses: Vec<String> = devices.iter().map(Device::address).collect();
        assert_eq!(addresses, ["0000:00:04.0", "0000:00:06.0", "0000:00:08.0"]);
        assert!(Device::place(&[Kind::Igb; 5]).is_ok());
        assert!(Device::place(&[Kind::Igb; 6]).is_err());
        assert!(Device::place(&[Kind::Nvme; 11]).is_ok());
    }
}
