//! PCI configuration space by ports 0xCF8 and 0xCFC: bus 0 with a host bridge and the device.

use crate::device::Device;

/// Address register: bit 31 enables, bits 8 to 23 are bus, device and function.
const ENABLE: u32 = 1 << 31;
const HOST_BRIDGE: u32 = 0;
const DEVICE: u32 = 1 << 3;
const DATA: u16 = 4;

pub struct Bus {
    address: u32,
    pub device: Device,
}

impl Bus {
    pub fn new(device: Device) -> Self {
        Self { address: 0, device }
    }

    /// Writes to a port, `port` bytes from 0xCF8.
    pub fn write(&mut self, port: u16, bytes: &[u8]) {
        if port >= DATA {
            let (function, register) = self.selected(port - DATA);
            if function == Some(DEVICE) {
                self.device.config_write(register, bytes);
            }
        } else if let (0, Ok(word)) = (port, bytes.try_into()) {
            self.address = u32::from_le_bytes(word);
        }
    }

    /// Reads from a port, `port` bytes from 0xCF8. A function that does not exist reads as ones.
    pub fn read(&self, port: u16, bytes: &mut [u8]) {
        let (function, register) = self.selected(port.saturating_sub(DATA));
        let word = match function {
            _ if port < DATA => self.address,
            Some(HOST_BRIDGE) => host_bridge(register & !3),
            Some(DEVICE) => self.device.config_read(register & !3),
            _ => u32::MAX,
        };
        let from = if port < DATA { port.into() } else { usize::from(register & 3) };
        bytes.iter_mut().zip(word.to_le_bytes().iter().skip(from)).for_each(|(to, b)| *to = *b);
    }

    /// Returns the selected function of bus 0, and the register in its configuration space.
    fn selected(&self, byte: u16) -> (Option<u32>, u16) {
        let function = (self.address & ENABLE != 0).then_some(self.address >> 8 & 0xffff);
        let [register, ..] = self.address.to_le_bytes();
        (function, u16::from(register & !3) + byte)
    }
}

/// Linux trusts this way of access if bus 0 has a host bridge.
fn host_bridge(register: u16) -> u32 {
    match register {
        0x00 => 0x0008_1b36, // Red Hat's, without registers of its own.
        0x08 => 0x0600_0000, // The class of a host bridge.
        _ => 0,
    }
}
