// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A device on the simulated platform, driven through bytes as user space drives a real one.
#![allow(dead_code)] // Each test file uses a part of this module.

use vfio_irq_engine::abi::{flags, Header};
use vfio_irq_engine::sim::{IrqCaps, Sim};
use vfio_irq_engine::{IrqEngine, Refusal};

pub struct Rig {
    pub sim: Sim,
    pub device: IrqEngine<Sim>,
    pub fds: [i32; 16],
}

/// The data behind the header.
#[derive(Clone, Debug)]
pub enum With {
    Nothing,
    Bools(Vec<u8>),
    Fds(Vec<i32>),
}

impl Rig {
    pub fn new(caps: IrqCaps) -> Self {
        let mut sim = Sim::with(caps);
        let fds = std::array::from_fn(|_| sim.eventfd());
        let device = IrqEngine::new(sim.slots());
        Self { sim, device, fds }
    }

    pub fn ask(
        &mut self,
        index: u32,
        action: u32,
        start: u32,
        count: u32,
        with: &With,
    ) -> Result<(), Refusal> {
        let (form, data) = match with {
            With::Nothing => (flags::DATA_NONE, Vec::new()),
            With::Bools(bools) => (flags::DATA_BOOL, bools.clone()),
            With::Fds(fds) => {
                (flags::DATA_EVENTFD, fds.iter().flat_map(|fd| fd.to_ne_bytes()).collect())
            }
        };
        let argsz = u32::try_from(Header::LEN + data.len()).expect("small");
        let header = Header { argsz, flags: form | action, index, start, count };
        let header = Header::from_bytes(&header.to_bytes());
        let checked = self.device.check(&self.sim, header)?;
        let request = checked.request(&data)?;
        self.device.set_irqs(&mut self.sim, &request)
    }

    pub fn attach(&mut self, index: u32, start: u32, fds: &[i32]) -> Result<(), Refusal> {
        let count = u32::try_from(fds.len()).expect("small");
        self.ask(index, flags::ACTION_TRIGGER, start, count, &With::Fds(fds.to_vec()))
    }

    /// Closes the device. Fails if a resource leaks or the engine broke a guarantee.
    pub fn close(mut self) {
        self.device.close(&mut self.sim);
        assert_eq!(self.sim.leaks(), None);
        assert_eq!(self.sim.violations(), &[] as &[String]);
    }
}
