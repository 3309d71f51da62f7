// A device on the simulated platform, and what sends it a request as user space does: index, flags, first
// vector, number of vectors, and the data behind the header. The examples of the documentation use it.
{
    use vfio_irq_engine::abi::Header;
    use vfio_irq_engine::{sim::Sim, Device, Refusal};

    fn ask(
        device: &mut Device<Sim>,
        sim: &mut Sim,
        [index, flags, start, count]: [u32; 4],
        data: &[u8],
    ) -> Result<(), Refusal> {
        let argsz = 20 + data.len() as u32;
        let header = Header { argsz, flags, index, start, count };
        let checked = device.check(sim, header)?;
        device.set_irqs(sim, &checked.request(data)?)
    }
    let sim = Sim::new();
    (Device::new(sim.slots()), sim, ask)
}
