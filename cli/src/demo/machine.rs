//! The controller that the demo uses: emulated in this process, or real.

use super::{Counted, Method};
use crate::error::Error;
use crate::info::VfToken;
use crate::info::device::{Opened, open};
use crate::pci::Bdf;
use crate::pci::System;
use vfio_irq_nvme_device::{Controller, Counts, Disk, Settings};
use vfio_irq_nvme_driver::{Device, Driver, Options, Socket};
use vfio_irq_user::Server;

const DISK: u64 = 64 << 20;
/// The class code of an NVMe controller.
const NVME: u32 = 0x01_08_02;

/// A controller with its driver.
pub struct Machine {
    /// The driver is dropped before its device.
    pub driver: Driver,
    /// The name of the device.
    pub name: String,
    /// The controller's own counts, if it has any.
    counts: Option<Counts>,
    _emulated: Option<(Server, tempfile::TempDir)>,
    /// The directory of a real device's path; dropped after the device.
    _folder: Option<tempfile::TempDir>,
}

impl Machine {
    /// Starts a controller, or opens the one at an address, and checks that it has so many queues.
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

    /// Returns how the raised interrupts are counted.
    pub fn counted(&self) -> Counted {
        if self.counts.is_some() { Counted::ByDevice } else { Counted::ByCompletion }
    }

    /// Returns how often the device raised the interrupt of an idle queue, by the device's own
    /// count. Returns `None` if the device keeps no count. Each queue has one command outstanding,
    /// so such a device raises one interrupt for each completion. The completions without an
    /// interrupt are the lost ones.
    pub fn raised(&self, queue: u16) -> Option<u64> {
        let counts = self.counts.as_ref()?.interrupts().counts(queue.into());
        Some(counts.signals + counts.dropped)
    }
}
