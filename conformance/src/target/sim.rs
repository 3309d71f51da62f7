//! Runs the cases on the engine with its simulated host, without a kernel.

use super::{Core, Counted, Target};
use crate::vfio::Facts;
use crate::{Answer, Error, Index};
use std::collections::BTreeMap;
use vfio_irq_engine::abi::{Header, InfoHeader};
use vfio_irq_engine::sim::{IrqCaps, Sim};
use vfio_irq_engine::{Errno, IrqEngine};

/// A simulated device.
pub struct Simulator {
    caps: IrqCaps,
    sim: Sim,
    device: IrqEngine<Sim>,
    /// The device asserts INTx.
    asserted: bool,
    /// Signals that were taken so far, by eventfd.
    seen: BTreeMap<i32, u64>,
}

impl Simulator {
    /// Creates a device with these capabilities.
    pub fn new(caps: IrqCaps) -> Self {
        let sim = Sim::with(caps);
        let device = IrqEngine::new(sim.slots());
        Self { caps, sim, device, asserted: false, seen: BTreeMap::new() }
    }

    fn info(&self, bytes: &mut [u8]) -> Result<(), Errno> {
        let all: &mut [u8; InfoHeader::LEN] = bytes
            .get_mut(..InfoHeader::LEN)
            .and_then(|all| all.try_into().ok())
            .ok_or(Errno::EFAULT)?;
        let asked = InfoHeader::from_bytes(all);
        let info = self.device.info(&self.sim, asked.check()?);
        *all = asked.answered(info).to_bytes();
        Ok(())
    }

    fn set(&mut self, bytes: &[u8]) -> Result<(), i32> {
        let refused = |errno: Errno| -errno.raw();
        let (header, data) = bytes.split_at_checked(Header::LEN).ok_or(-Errno::EFAULT.raw())?;
        let header = header.try_into().map_err(|_| -Errno::EFAULT.raw())?;
        let checked = self.device.check(&self.sim, Header::from_bytes(header)).map_err(refused)?;
        let data = data.get(..checked.data_len()).ok_or(-Errno::EFAULT.raw())?;
        let request = checked.request(data).map_err(refused)?;
        let outcome = self.device.set_irqs(&mut self.sim, &request);
        outcome.map_err(vfio_irq_engine::Refusal::to_return)
    }

    /// Signals INTx if it is asserted and unmasked: INTx is level-triggered.
    fn pull(&mut self) {
        if self.asserted {
            self.sim.raise_intx();
        }
    }

    /// Returns the host's requirements that the engine violated.
    pub fn violations(&self) -> &[String] {
        self.sim.violations()
    }
}

impl Target for Simulator {
    fn core(&self) -> Core {
        Core::Rust
    }

    fn facts(&self) -> Facts {
        Facts {
            pin: self.caps.pin,
            msi: self.caps.msi,
            msi_mask_bits: self.caps.msi_maskable,
            msix: self.caps.msix,
        }
    }

    fn get_irq_info(&mut self, bytes: &mut [u8]) -> Result<Answer, Error> {
        Ok(self.info(bytes).map_or_else(|errno| Answer(-errno.raw()), |()| Answer::OK))
    }

    fn get_irq_info_unwritable(&mut self, _: &[u8]) -> Result<Option<Answer>, Error> {
        Ok(None)
    }

    fn set_irqs(&mut self, bytes: &[u8]) -> Result<Answer, Error> {
        let answer = self.set(bytes).map_or_else(Answer, |()| Answer::OK);
        self.pull();
        Ok(answer)
    }

    fn eventfd(&mut self) -> Result<i32, Error> {
        Ok(self.sim.eventfd())
    }

    fn other_file(&mut self) -> Result<i32, Error> {
        Ok(self.sim.other_file())
    }

    fn signals(&mut self, fd: i32) -> Result<u64, Error> {
        let all = self.sim.signals(fd);
        let before = self.seen.insert(fd, all).unwrap_or(0);
        Ok(all - before)
    }

    fn wait(&mut self, fd: i32) -> Result<bool, Error> {
        Ok(self.sim.signals(fd) > self.seen.get(&fd).copied().unwrap_or(0))
    }

    fn signal(&mut self, fd: i32) -> Result<(), Error> {
        self.sim.signal_eventfd(fd);
        self.pull();
        Ok(())
    }

    fn reach(&self, index: Index) -> u32 {
        match index {
            Index::Intx => u32::from(self.caps.pin && self.caps.connected),
            Index::Msi => self.caps.msi,
            Index::Msix => self.caps.msix,
            Index::Err | Index::Req => 0,
        }
    }

    fn ready(&mut self, _: Index, _: u32) -> Result<(), Error> {
        Ok(())
    }

    fn raise(&mut self, index: Index, vector: u32) -> Result<(), Error> {
        match index {
            Index::Intx => {
                self.asserted = true;
                self.pull();
            }
            Index::Msi | Index::Msix => self.sim.raise(vector),
            Index::Err | Index::Req => return Err(Error::Unraisable { index, vector }),
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<bool, Error> {
        self.asserted = false;
        Ok(true)
    }

    fn allocated(&self) -> Option<usize> {
        Some(self.sim.allocated())
    }

    fn attached(&self) -> Option<Vec<u32>> {
        let slots = self.device.vectors().slots();
        Some(slots.filter(|(_, slot)| slot.vector().is_some()).map(|(number, _)| number).collect())
    }

    fn unmasked(&self) -> Result<Option<Vec<u32>>, Error> {
        Ok(Some(self.sim.unmasked()))
    }

    fn counted(&self, vector: u32) -> Option<Counted> {
        let counts = self.device.vectors().slot(vector)?.counts();
        Some(Counted {
            signals: None,
            masks: counts.masks,
            unmasks: counts.unmasks,
            retargets: counts.retargets,
            loopbacks: counts.loopbacks,
            failures: counts.failures,
        })
    }

    fn known(&self) -> Option<Vec<u32>> {
        Some(self.device.vectors().slots().map(|(number, _)| number).collect())
    }

    fn handlers(&self) -> Option<Vec<String>> {
        None
    }

    fn reset(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    fn disconnected(&self) -> bool {
        !self.caps.connected
    }

    fn close(&mut self) -> Result<(), Error> {
        self.device.close(&mut self.sim);
        Ok(())
    }

    fn leaks(&self) -> Option<String> {
        let broken = self.sim.violations();
        self.sim.leaks().or_else(|| (!broken.is_empty()).then(|| format!("{broken:?}")))
    }

    fn open(&mut self) -> Result<(), Error> {
        self.close()?;
        *self = Self::new(self.caps);
        Ok(())
    }
}
