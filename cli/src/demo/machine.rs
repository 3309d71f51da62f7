//! The controller that the demo uses: emulated in this process, or real.

use super::{Counted, Method};
use crate::error::Error;
use crate::info::VfToken;
use crate::info::device::{Opened, open};
use crate::pci::System;
use crate::target::Bdf;
use vfio_irq_nvme::driver::{Device, Driver, Options, Socket};
use vfio_irq_nvme::{Controller, Counts, Disk, Settings};
use vfio_irq_user::Server;

const DISK: u64 = 64 << 20;
/// The class code of an NVMe controller.
const NVME: u32 = 0x01_08_02;

/// A controller with its driver.
pub struct Machine {
    /// The driver goes before what it drives.
    pub driver: Driver,
    /// What the device is called.
    pub name: String,
    /// What the controller itself counts, where it can be asked.
    counts: Option<Counts>,
    _emulated: Option<(Server, tempfile::TempDir)>,
    /// Of a real device; it goes after the device.
    _folder: Option<tempfile::TempDir>,
}

impl Machine {
    /// Starts a controller, or takes the one at an address, and sees that it has so many queues.
    pub fn start(system: &System, wanted: &super::Options, method: Method) -> Result<Self, Error> {
        let queues = wanted.queues;
        let options = Options { method: method.of_driver(), queues, ..Options::default() };
        let machine = match &wanted.device {
            Some(name) => Self::real(system, name.find(system)?, &wanted.token, options),
            None => Self::emulated(options),
        }?;
        match machine.driver.info().queues {
            there if there < queues => Err(Error::new(
                format!("{} has {there} queues for data, not {queues}", machine.name),
                format!("say --queues {there}"),
            )),
            _ => Ok(machine),
        }
    }

    fn emulated(options: Options) -> Result<Self, Error> {
        let folder = tempfile::tempdir()
            .map_err(|error| Error::plain(format!("cannot make a place for a socket: {error}")))?;
        let path = folder.path().join("nvme.sock");
        let settings = Settings { queues: options.queues, serial: "demo".into() };
        let disk = Disk::memory(DISK)?;
        let server = Server::start(vfio_irq_user::Options::default())?;
        let mut counts = None;
        server.add(&path, settings.function()?, |bus| {
            let controller = Controller::new(bus, disk, &settings);
            counts = Some(controller.counts());
            controller
        })?;
        let driver = Driver::open(Socket::connect(&path)?, options)?;
        let name = "an NVMe controller that this process emulates".to_owned();
        Ok(Self { driver, name, counts, _emulated: Some((server, folder)), _folder: None })
    }

    fn real(system: &System, bdf: Bdf, token: &VfToken, options: Options) -> Result<Self, Error> {
        let function = system.function(bdf)?;
        if function.class != NVME {
            return Err(Error::new(
                format!(
                    "{bdf} is no NVMe controller: class {:06x}, {}",
                    function.class, function.what
                ),
                "`vfio-irq list` shows which function is one",
            ));
        }
        let Opened { device, memory, folder } = open(system, &function, token)?;
        let driver = Driver::open(Device::over(device, memory)?, options)?;
        let name = format!("{} at {bdf}", driver.info().model);
        Ok(Self { driver, name, counts: None, _emulated: None, _folder: folder })
    }

    /// How it is known what the device raised.
    pub fn counted(&self) -> Counted {
        if self.counts.is_some() { Counted::ByDevice } else { Counted::ByCompletion }
    }

    /// How often the device raised the interrupt of one of its queues, by its own count; the queue is
    /// at rest. `None` where a device keeps no count: it tells of each command by itself, since each
    /// queue has one under way at a time, so there are as many interrupts as completions, and those
    /// that nobody told of are the lost ones.
    pub fn raised(&self, queue: u16) -> Option<u64> {
        let counts = self.counts.as_ref()?.interrupts().counts(queue.into());
        Some(counts.signals + counts.dropped)
    }
}
