//! The sources of counts.

use super::load::Load;
use crate::counts::{Counts, Row};
use crate::error::Error;
use crate::pci::Bdf;
use crate::pci::vfio::Core;
use crate::pci::{System, debugfs, interrupts};
use crate::serve;
use crate::target::Target;
use std::cell::OnceCell;
use std::path::PathBuf;

/// A source of counts.
pub enum Source {
    /// The Rust core's counts.
    Debugfs(System, Bdf),
    /// The host's interrupts of a function, with any driver.
    Host(System, Bdf),
    /// A device that another process emulates, and whether it was seen.
    Served(PathBuf, OnceCell<()>),
    /// A device of this process, with a load.
    Made(Load),
}

impl Source {
    /// Returns the best source for a device.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn of(system: &System, target: &Target) -> Result<Self, Error> {
        Ok(match target {
            Target::Pci(bdf) => {
                system.function(*bdf)?;
                let table = debugfs::read(system, *bdf).is_ok();
                let kind = if table { Self::Debugfs } else { Self::Host };
                kind(system.clone(), *bdf)
            }
            Target::User(path) => Self::Served(path.clone(), OnceCell::new()),
            Target::Sim => Self::Made(Load::start()?),
        })
    }

    /// Reads the counts.
    ///
    /// # Errors
    ///
    /// If the device is gone.
    pub fn read(&self) -> Result<Counts, Error> {
        match self {
            Self::Debugfs(system, bdf) => {
                let function = system.function(*bdf)?;
                let counts = debugfs::read(system, *bdf).map_err(|error| {
                    let has = function.driver.as_deref().unwrap_or("no driver");
                    Error::plain(match function.vfio {
                        true => format!("the counts of {bdf} cannot be read any more: {error}"),
                        false => {
                            format!("{bdf} is not bound to a VFIO driver any more: {has} has it")
                        }
                    })
                })?;
                Ok(Counts {
                    device: format!("{bdf} {} [{}]", function.what, function.id),
                    driver: function.driver.unwrap_or_default(),
                    ..counts
                })
            }
            Self::Host(system, bdf) => host(system, *bdf),
            Self::Served(path, seen) => {
                let counts = serve::counts::read(path).map_err(|error| match seen.get() {
                    Some(()) => {
                        Error { what: format!("the server has ended: {}", error.what), ..error }
                    }
                    None => error,
                })?;
                seen.get_or_init(|| ());
                let device = format!("{} {}", path.display(), counts.device);
                Ok(Counts { device, ..counts })
            }
            Self::Made(load) => Ok(load.counts()),
        }
    }
}

/// Returns the host's own counts, which contain interrupts only.
fn host(system: &System, bdf: Bdf) -> Result<Counts, Error> {
    let function = system.function(bdf)?;
    let row = |irq: interrupts::HostIrq| Row {
        vector: Some(irq.vector),
        irq: Some(irq.irq),
        state: Some(if irq.handler.is_some() { "unmasked" } else { "empty" }.to_owned()),
        signals: irq.handler.is_some().then_some(irq.signals),
        ..Row::default()
    };
    let has_own = function.vfio && Core::read(system).is_some_and(|core| core.is_rust());
    let by = match has_own {
        true => "/proc/interrupts (root, with debugfs mounted, sees the core's own)",
        false => "/proc/interrupts",
    };
    let mut counts = Counts {
        device: format!("{bdf} {} [{}]", function.what, function.id),
        driver: function.driver.unwrap_or_else(|| "no driver".to_owned()),
        vectors: interrupts::of(system, bdf).into_iter().map(row).collect(),
        ..Counts::default()
    };
    counts.facts.insert("counted_by".to_owned(), by.into());
    Ok(counts)
}
