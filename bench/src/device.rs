//! The device that all our servers emulate.

use vfio_irq_user::{Device, Errno};

/// Registers that read as sevens.
pub struct Registers;

impl Device for Registers {
    fn read(&mut self, _: u32, _: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.fill(7);
        Ok(())
    }

    fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn reset(&mut self) {}
}
