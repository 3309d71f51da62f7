// Opens a driver for the controller of `server.rs`, and has all memory looked at that it maps.
{
    use std::io;
    use std::sync::mpsc::{Sender, channel};
    use vfio_irq::{Index, Info, SetIrqs, Transport};
    use vfio_irq_nvme::driver::{Driver, Function, Memory, Options, Socket};

    struct Watched<L>(Socket, L);

    impl<L> Transport for Watched<L> {
        fn irq_info(&self, index: Index) -> io::Result<Info> {
            self.0.irq_info(index)
        }
        fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
            self.0.set_irqs(request)
        }
    }

    impl<L: Fn(&Memory, u64) + Send + Sync> Function for Watched<L> {
        fn class(&self) -> io::Result<u32> {
            self.0.class()
        }
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read32(&self, offset: u64) -> io::Result<u32> {
            self.0.read32(offset)
        }
        fn write32(&self, offset: u64, value: u32) -> io::Result<()> {
            self.0.write32(offset, value)
        }
        fn set_bus_master(&self, on: bool) -> io::Result<()> {
            self.0.set_bus_master(on)
        }
        fn map(&self, memory: &Memory, address: u64) -> io::Result<()> {
            self.1(memory, address);
            self.0.map(memory, address)
        }
        fn unmap(&self, address: u64, size: u64) -> io::Result<()> {
            self.0.unmap(address, size)
        }
    }

    fn with<T: Send + 'static>(
        look: impl Fn(&Memory, u64) -> T + Send + Sync + 'static,
    ) -> Result<Vec<T>, Box<dyn std::error::Error>> {
        let (path, _, _kept) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
        let (seen, all): (Sender<T>, _) = channel();
        let look = move |memory: &Memory, address| _ = seen.send(look(memory, address));
        Driver::open(Watched(Socket::connect(&path)?, look), Options::default())?;
        Ok(all.iter().collect())
    }
    with
}
