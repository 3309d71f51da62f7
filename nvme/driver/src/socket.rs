//! A controller over vfio-user.

use super::Function;
use super::memory::Memory;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use vfio_irq::vfio_irq_user::pci::region::CONFIG;
use vfio_irq::vfio_irq_user::{Client, ClientError, ClientOptions};
use vfio_irq::{Index, Info, SetIrqs, Transport};

/// BAR 0.
const REGISTERS: u32 = 0;
/// The offset of revision and class in configuration space.
const CLASS: u64 = 8;
/// The command register, and its bits.
const COMMAND: u64 = 4;
const MEMORY: u16 = 1 << 1;
const MASTER: u16 = 1 << 2;

/// A controller that another process emulates.
///
/// The driver shares its memory with that process. Register accesses are messages with a reply;
/// doorbells are messages without one.
pub struct Socket {
    client: Client,
    size: u64,
}

impl Socket {
    /// Connects to the socket of a server.
    ///
    /// # Errors
    ///
    /// Returns an error if no server listens, or the device is no PCI device.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        Self::over(Client::connect(path, ClientOptions::default())?)
    }

    /// Takes an existing connection.
    ///
    /// # Errors
    ///
    /// Returns an error if the device is no PCI device.
    pub fn over(client: Client) -> Result<Self, ClientError> {
        let size = client.region(REGISTERS)?.size;
        Ok(Self { client, size })
    }
}

impl Transport for Socket {
    fn irq_info(&self, index: Index) -> io::Result<Info> {
        Transport::irq_info(&self.client, index)
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        Transport::set_irqs(&self.client, request)
    }
}

impl Function for Socket {
    fn class(&self) -> io::Result<u32> {
        let mut revision_and_class = [0; 4];
        self.client.region_read(CONFIG, CLASS, &mut revision_and_class)?;
        Ok(u32::from_le_bytes(revision_and_class) >> 8)
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read32(&self, offset: u64) -> io::Result<u32> {
        let mut value = [0; 4];
        self.client.region_read(REGISTERS, offset, &mut value)?;
        Ok(u32::from_le_bytes(value))
    }

    fn write32(&self, offset: u64, value: u32) -> io::Result<()> {
        Ok(self.client.region_write(REGISTERS, offset, &value.to_le_bytes())?)
    }

    fn ring(&self, offset: u64, value: u32) -> io::Result<()> {
        Ok(self.client.region_post(REGISTERS, offset, &value.to_le_bytes())?)
    }

    fn set_bus_master(&self, on: bool) -> io::Result<()> {
        let mut command = [0; 2];
        self.client.region_read(CONFIG, COMMAND, &mut command)?;
        let other = (u16::from_le_bytes(command) | MEMORY) & !MASTER;
        let command = if on { other | MASTER } else { other };
        Ok(self.client.region_write(CONFIG, COMMAND, &command.to_le_bytes())?)
    }

    fn map(&self, memory: &Memory, address: u64) -> io::Result<()> {
        Ok(self.client.dma_map(address, memory.size(), Some((memory.as_fd(), 0)))?)
    }

    fn unmap(&self, address: u64, size: u64) -> io::Result<()> {
        Ok(self.client.dma_unmap(address, size)?)
    }
}
