//! A real device behind a driver of the running kernel.

use super::calls::{Calls, Trace};
use super::{Core, Counted, IrqRegisters, Target, counters};
use crate::devices::{Kind, Stimulus};
use crate::eventfd::Eventfds;
use crate::sys::GuardedBytes;
use crate::vfio::{self, Device, Facts, MsixTable, Opener};
use crate::{Answer, Error, Index};
use std::os::fd::{AsRawFd, OwnedFd};

/// A device, the core behind its driver, and the stimulus of its interrupts.
pub struct Kernel {
    opener: Opener,
    core: Core,
    kind: Option<Kind>,
    open: Option<Opened>,
    facts: Facts,
    eventfds: Eventfds,
    files: Vec<OwnedFd>,
}

struct Opened {
    // The stimulus is dropped before the device, because it holds the device's registers.
    stimulus: Option<Box<dyn Stimulus>>,
    table: Option<MsixTable>,
    device: Device,
    request: GuardedBytes,
}

impl Kernel {
    /// Opens the device at an address.
    pub fn new(bdf: &str, core: Core) -> Result<Self, Error> {
        let mut kernel = Self {
            opener: Opener::new(bdf)?,
            core,
            kind: Kind::of(vfio::identity(bdf)?),
            open: None,
            facts: Facts::default(),
            eventfds: Eventfds::default(),
            files: Vec::new(),
        };
        kernel.open()?;
        kernel.facts = kernel.opened()?.device.facts()?;
        Ok(kernel)
    }

    fn opened(&mut self) -> Result<&mut Opened, Error> {
        self.open.as_mut().ok_or_else(|| Error::Device {
            bdf: self.opener.bdf().into(),
            why: "it is closed at the moment".into(),
        })
    }

    fn stimulus(&mut self, index: Index, vector: u32) -> Result<&mut dyn Stimulus, Error> {
        match &mut self.opened()?.stimulus {
            Some(stimulus) if vector < stimulus.reach(index) => Ok(stimulus.as_mut()),
            _ => Err(Error::Unraisable { index, vector }),
        }
    }
}

impl Target for Kernel {
    fn core(&self) -> Core {
        self.core
    }

    fn is_before_linux(&self, major: u32, minor: u32) -> bool {
        let release = rustix::system::uname();
        let mut numbers = release.release().to_str().unwrap_or_default().split('.');
        let mut number = || numbers.next()?.parse::<u32>().ok();
        number().zip(number()).is_some_and(|running| running < (major, minor))
    }

    fn facts(&self) -> Facts {
        self.facts
    }

    fn get_irq_info(&mut self, bytes: &mut [u8]) -> Result<Answer, Error> {
        let opened = self.opened()?;
        opened.request.put(bytes)?;
        let answer = opened.request.get_irq_info(opened.device.fd());
        opened.request.take(bytes);
        Ok(answer)
    }

    fn get_irq_info_unwritable(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Error> {
        let opened = self.opened()?;
        opened.request.put(bytes)?;
        opened.request.get_irq_info_unwritable(opened.device.fd()).map(Some)
    }

    fn set_irqs(&mut self, bytes: &[u8]) -> Result<Answer, Error> {
        let opened = self.opened()?;
        opened.request.put(bytes)?;
        Ok(opened.device.set_irqs(&opened.request))
    }

    fn eventfd(&mut self) -> Result<i32, Error> {
        self.eventfds.create()
    }

    fn other_file(&mut self) -> Result<i32, Error> {
        let opened = |source| Error::Descriptor { what: "opened", source };
        let (reader, writer) = rustix::pipe::pipe().map_err(opened)?;
        drop(writer);
        let number = reader.as_raw_fd();
        self.files.push(reader);
        Ok(number)
    }

    fn signals(&mut self, fd: i32) -> Result<u64, Error> {
        Ok(self.eventfds.get(fd)?.take())
    }

    fn wait(&mut self, fd: i32) -> Result<bool, Error> {
        Ok(self.eventfds.get(fd)?.wait())
    }

    fn signal(&mut self, fd: i32) -> Result<(), Error> {
        self.eventfds.get(fd)?.signal()
    }

    fn reach(&self, index: Index) -> u32 {
        let stimulus = self.open.as_ref().and_then(|opened| opened.stimulus.as_ref());
        let there = match index {
            Index::Intx => u32::from(self.facts.pin),
            Index::Msi => self.facts.msi,
            Index::Msix => self.facts.msix,
            Index::Err | Index::Req => 0,
        };
        stimulus.map_or(0, |stimulus| stimulus.reach(index)).min(there)
    }

    fn ready(&mut self, index: Index, vectors: u32) -> Result<(), Error> {
        self.stimulus(index, vectors.saturating_sub(1))?.ready(index, vectors)
    }

    fn raise(&mut self, index: Index, vector: u32) -> Result<(), Error> {
        self.stimulus(index, vector)?.raise(index, vector)
    }

    fn acknowledge(&mut self) -> Result<bool, Error> {
        self.stimulus(Index::Intx, 0)?.acknowledge().map(|()| true)
    }

    fn allocated(&self) -> Option<usize> {
        let listed = std::fs::read_dir(vfio::sysfs(self.opener.bdf()).join("msi_irqs"));
        // The directory exists only while the device has interrupts.
        Some(listed.map_or(0, Iterator::count))
    }

    fn attached(&self) -> Option<Vec<u32>> {
        let number = |handler: &String| {
            let (kind, rest) = handler.split_once('[')?;
            let (number, _) = rest.split_once(']')?;
            kind.starts_with("vfio-msi").then(|| number.parse().ok()).flatten()
        };
        let mut attached: Vec<u32> = self.handlers()?.iter().filter_map(number).collect();
        attached.sort_unstable();
        Some(attached)
    }

    fn unmasked(&self) -> Result<Option<Vec<u32>>, Error> {
        let Some(table) = self.open.as_ref().and_then(|opened| opened.table.as_ref()) else {
            return Ok(None);
        };
        let mut unmasked = Vec::new();
        for number in 0..self.facts.msix {
            if !table.is_masked(number)? {
                unmasked.push(number);
            }
        }
        Ok(Some(unmasked))
    }

    fn registers(&self) -> Result<Option<IrqRegisters>, Error> {
        let Some(opened) = &self.open else { return Ok(None) };
        opened.device.irq_registers(self.opener.bdf()).map(Some)
    }

    fn counted(&self, vector: u32) -> Option<Counted> {
        counters::of_vector(&counters::read(self.opener.bdf())?, vector)
    }

    fn known(&self) -> Option<Vec<u32>> {
        Some(counters::vectors(&counters::read(self.opener.bdf())?))
    }

    fn calls_of(&mut self, bytes: &[u8]) -> Result<Option<(Answer, Calls)>, Error> {
        let Some(trace) = Trace::new()? else { return Ok(None) };
        let opened = self.opened()?;
        opened.request.put(bytes)?;
        trace.count(|| opened.device.set_irqs(&opened.request)).map(Some)
    }

    fn handlers(&self) -> Option<Vec<String>> {
        Some(self.interrupts()?.into_iter().map(|(_, handler)| handler).collect())
    }

    fn interrupts(&self) -> Option<Vec<(u32, String)>> {
        let table = std::fs::read_to_string("/proc/interrupts").ok()?;
        let ours = format!("({})", self.opener.bdf());
        let of_line = |line: &str| {
            let (irq, rest) = line.trim_start().split_once(':')?;
            let handlers = rest.split_whitespace().filter(|word| word.ends_with(&ours));
            let irq: u32 = irq.parse().ok()?;
            Some(handlers.map(|handler| (irq, handler.into())).collect::<Vec<_>>())
        };
        Some(table.lines().filter_map(of_line).flatten().collect())
    }

    fn reset(&mut self) -> Result<bool, Error> {
        self.opened()?.device.reset()
    }

    fn forget_message(&mut self, vector: u32) -> Result<bool, Error> {
        match &self.opened()?.table {
            Some(table) => table.forget_message(vector).map(|()| true),
            None => Ok(false),
        }
    }

    fn close(&mut self) -> Result<(), Error> {
        self.open = None;
        self.eventfds.clear();
        self.files.clear();
        Ok(())
    }

    fn leaks(&self) -> Option<String> {
        let handlers = self.handlers().unwrap_or_default();
        let allocated = self.allocated().unwrap_or(0);
        let clean = handlers.is_empty() && allocated == 0;
        (!clean).then(|| format!("{allocated} interrupts are allocated, handlers: {handlers:?}"))
    }

    fn open(&mut self) -> Result<(), Error> {
        self.close()?;
        let device = self.opener.open()?;
        let stimulus = match self.kind {
            Some(kind) => kind.stimulus(&device, self.opener.dma())?,
            None => None,
        };
        let table = device.msix_table()?;
        self.open = Some(Opened { stimulus, table, device, request: GuardedBytes::new()? });
        Ok(())
    }
}
