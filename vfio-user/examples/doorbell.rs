//! A PCI function of one's own: 4 vectors of MSI-X, and a BAR in which each write of a number raises
//! the vector with that number.
//!
//! ```text
//! cargo run --example doorbell -p vfio-irq-user -- /tmp/doorbell.sock
//! ```

use vfio_irq_user::pci::{Bar, Function};
use vfio_irq_user::{Bus, Device, Errno, Options, Server};

const VECTORS: u32 = 4;

struct Doorbell {
    bus: Bus,
    last: u8,
}

impl Device for Doorbell {
    /// Each byte reads as the last number.
    fn read(&mut self, _bar: u32, _offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.fill(self.last);
        Ok(())
    }

    fn write(&mut self, _bar: u32, _offset: u64, data: &[u8]) -> Result<(), Errno> {
        let [number, ..] = *data else { return Ok(()) };
        self.last = number;
        if u32::from(number) < VECTORS {
            self.bus.interrupts.raise(number.into());
        }
        Ok(())
    }

    /// The guest, or the next client, finds the device as after power-on.
    fn reset(&mut self) {
        self.last = 0;
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: doorbell SOCKET")?;
    // The vectors' table and their pending bits are in BAR 0 as well, behind the registers.
    let function = Function::builder(0x1234, 0x0001)
        .bar(0, Bar::memory32(0x4000))
        .msix(VECTORS, 0, 0x2000, 0x3000)
        .build()?;
    let server = Server::start(Options::default())?;
    server.add(path, function, |bus| Doorbell { bus, last: 0 })?;
    server.wait();
    Ok(())
}
