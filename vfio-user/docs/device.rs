// A function, and what makes its device: what the examples of this crate's documentation talk to. The
// device has 256 bytes of registers in BAR 0, and raises the vector whose number is written to 0x40.
// BAR 2 can be mapped, and a write to 0x80 of BAR 0 has an eventfd.
{
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use vfio_irq_user::pci::{Bar, Function, IoEventfd};
    use vfio_irq_user::{Bus, Device, Errno};

    struct Board {
        bus: Bus,
        registers: [u8; 256],
    }

    impl Device for Board {
        fn read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
            for (at, byte) in (offset..).zip(data) {
                *byte = self.registers.get(at as usize).copied().unwrap_or(0);
            }
            Ok(())
        }

        fn write(&mut self, _: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
            let at = offset as usize;
            let place = self.registers.get_mut(at..at + data.len()).ok_or(Errno::EINVAL)?;
            place.copy_from_slice(data);
            if offset == 0x40 {
                self.bus.interrupts.raise(data[0].into());
            }
            Ok(())
        }

        fn reset(&mut self) {
            self.registers = [0; 256];
        }
    }

    let bell = eventfd(0, EventfdFlags::CLOEXEC)?;
    let file = memfd_create("registers", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, 0x1000)?;
    let bell = IoEventfd { offset: 0x80, size: 4, datamatch: None, fd: bell.into() };
    let function = Function::builder(0x1234, 0x0001)
        .pin(1)
        .msi(4, true)
        .bar(0, Bar::memory32(0x4000).io_eventfd(bell))
        .bar(2, Bar::memory32(0x1000).shared(file.into(), 0, Vec::new()))
        .msix(8, 0, 0x2000, 0x3000)
        .build()?;
    (function, |bus: Bus| Board { bus, registers: [0; 256] })
}
