//! The kinds of PCI functions, by class code.

/// Returns the kind of a function with this class code (three bytes), in words.
pub fn name(class: u32) -> &'static str {
    match (class >> 16, class >> 8 & 0xff, class & 0xff) {
        (0x00, ..) => "device without a class",
        (0x01, 0x00, _) => "SCSI controller",
        (0x01, 0x01, _) => "IDE controller",
        (0x01, 0x04, _) => "RAID controller",
        (0x01, 0x06, _) => "SATA controller",
        (0x01, 0x07, _) => "SAS controller",
        (0x01, 0x08, _) => "NVMe controller",
        (0x01, ..) => "storage controller",
        (0x02, 0x00, _) => "Ethernet controller",
        (0x02, 0x07, _) => "InfiniBand controller",
        (0x02, 0x80, _) => "network controller",
        (0x02, ..) => "network controller",
        (0x03, 0x00, _) => "VGA controller",
        (0x03, 0x02, _) => "3D controller",
        (0x03, ..) => "display controller",
        (0x04, 0x03, _) => "audio device",
        (0x04, ..) => "multimedia device",
        (0x05, 0x02, _) => "CXL memory",
        (0x05, ..) => "memory controller",
        (0x06, 0x00, _) => "host bridge",
        (0x06, 0x01, _) => "ISA bridge",
        (0x06, 0x04, _) => "PCI bridge",
        (0x06, ..) => "bridge",
        (0x07, ..) => "communication controller",
        (0x08, 0x06, _) => "IOMMU",
        (0x08, ..) => "system peripheral",
        (0x09, ..) => "input device",
        (0x0b, ..) => "processor",
        (0x0c, 0x03, 0x30) => "USB controller (xHCI)",
        (0x0c, 0x03, _) => "USB controller",
        (0x0c, 0x05, _) => "SMBus controller",
        (0x0c, ..) => "serial bus controller",
        (0x0d, ..) => "wireless controller",
        (0x10, ..) => "encryption controller",
        (0x11, ..) => "signal processing controller",
        (0x12, ..) => "processing accelerator",
        (0xff, ..) => "device of a class of its own",
        _ => "device of another class",
    }
}

/// Returns true if the class is a bridge, which user space never drives.
pub fn is_bridge(class: u32) -> bool {
    class >> 16 == 0x06
}
