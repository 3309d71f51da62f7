// SPDX-License-Identifier: GPL-2.0-only OR MIT

// A device on the simulated platform, and what asks it as user space does. `ask` sends a request: index,
// flags, first vector and number of vectors, and the data behind the header. `attach` attaches eventfds
// from a vector on. The examples of the documentation use both.
{
    use vfio_irq_engine::abi::{flags, Header, Index};
    use vfio_irq_engine::{sim::Sim, IrqEngine, Refusal};

    fn ask(
        device: &mut IrqEngine<Sim>,
        sim: &mut Sim,
        index: Index,
        [flags, start, count]: [u32; 3],
        data: &[u8],
    ) -> Result<(), Refusal> {
        let header = Header { argsz: 20 + data.len() as u32, flags, index: index.raw(), start, count };
        let checked = device.check(sim, header)?;
        device.set_irqs(sim, &checked.request(data)?)
    }

    fn attach(
        device: &mut IrqEngine<Sim>,
        sim: &mut Sim,
        index: Index,
        start: u32,
        fds: &[i32],
    ) -> Result<(), Refusal> {
        let data: Vec<u8> = fds.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
        let flags = flags::DATA_EVENTFD | flags::ACTION_TRIGGER;
        ask(device, sim, index, [flags, start, fds.len() as u32], &data)
    }
    let sim = Sim::new();
    (IrqEngine::new(sim.slots()), sim, ask, attach)
}
