//! `vfio-irq serve`.

pub mod counts;
mod nvme;
mod ready;
mod size;
mod socket;

use crate::error::Error;
use crate::pci::System;
use crate::report::Out;
use clap::Subcommand;

/// The kinds of served devices.
#[derive(Subcommand)]
pub enum Served {
    /// Serve NVMe controllers, one for each socket
    Nvme(nvme::Options),
}

/// Serves the devices.
pub fn run(system: &System, out: Out, served: Served) -> Result<(), Error> {
    let Served::Nvme(options) = served;
    nvme::serve(system, out, &options)
}
