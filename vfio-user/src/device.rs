//! What somebody writes who emulates a device.

use crate::irq::{Interrupts, Table};
use crate::memory::Memory;
use crate::pci::{Config, Effects, Function, MsixTable, Part, region};
use std::sync::Arc;
use vfio_irq_engine::Errno;

/// What a device has on its side of the bus. Both are handles that may be cloned, kept and used from
/// any thread.
///
/// ```
/// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
/// let device = bus.clone();
/// let working = std::thread::spawn(move || {
///     // A device's own thread: data first, then the interrupt that tells of it.
///     device.memory.write(0x1000, b"data")?;
///     device.interrupts.raise(0);
///     Ok::<(), vfio_irq_user::Errno>(())
/// });
/// // This client has mapped nothing.
/// assert_eq!(working.join().expect("no panic"), Err(vfio_irq_user::Errno::EFAULT));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bus {
    /// To raise interrupts with.
    pub interrupts: Interrupts,
    /// To reach the client's memory with.
    pub memory: Memory,
}

/// A device that is emulated.
///
/// Its methods are called by the thread of the client's connection, one at a time. Offsets and lengths
/// are within the BAR. Whatever else a device does, it does in threads of its own, with clones of its
/// [`Bus`]; doorbells can be eventfds ([`crate::pci::Bar::io_eventfd`]) or shared memory that it polls
/// ([`crate::pci::Bar::shared`]). Configuration space, the MSI-X table and the interrupts themselves
/// are not its business.
///
/// A timer that fires a vector after as many milliseconds as are written to its register:
///
/// ```
/// use std::{thread, time::Duration};
/// use vfio_irq_user::pci::{Bar, Function};
/// use vfio_irq_user::{Bus, Device, Errno, Options, Server};
///
/// struct Timer {
///     bus: Bus,
///     millis: u32,
/// }
///
/// impl Device for Timer {
///     fn read(&mut self, _bar: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
///         let register = self.millis.to_le_bytes();
///         for (at, byte) in (offset..).zip(data) {
///             *byte = register.get(at as usize).copied().unwrap_or(0);
///         }
///         Ok(())
///     }
///
///     fn write(&mut self, _bar: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
///         let (0, Ok(value)) = (offset, data.try_into()) else { return Err(Errno::EINVAL) };
///         self.millis = u32::from_le_bytes(value);
///         let (interrupts, after) = (self.bus.interrupts.clone(), self.millis);
///         thread::spawn(move || {
///             thread::sleep(Duration::from_millis(after.into()));
///             interrupts.raise(0);
///         });
///         Ok(())
///     }
///
///     fn reset(&mut self) {
///         self.millis = 0;
///     }
/// }
///
/// let function = Function::builder(0x1234, 0x0001)
///     .class(0x08, 0x02, 0x00)
///     .bar(0, Bar::memory32(0x2000))
///     .msix(1, 0, 0x1000, 0x1800)
///     .build()?;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("timer.sock");
/// let server = Server::start(Options::default())?;
/// server.add(&path, function, |bus| Timer { bus, millis: 0 })?;
/// // Clients come and go, until somebody calls `server.stopper().stop()`.
/// # drop(server);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Device: Send {
    /// The client reads a BAR.
    ///
    /// # Errors
    ///
    /// Go to the client.
    ///
    /// ```
    /// # use vfio_irq_user::{Device, Errno};
    /// # struct Board;
    /// # impl Device for Board {
    /// #     fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn reset(&mut self) {}
    /// fn read(&mut self, bar: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
    ///     match (bar, offset) {
    ///         (0, 0x00) => data.copy_from_slice(&self.version().to_le_bytes()[..data.len().min(4)]),
    ///         // As on a bus where nobody answers.
    ///         _ => data.fill(0xff),
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// # impl Board { fn version(&self) -> u32 { 0x0102 } }
    /// let mut low = [0; 2];
    /// Board.read(0, 0x00, &mut low)?;
    /// assert_eq!(low, [0x02, 0x01]);
    /// # Ok::<(), Errno>(())
    /// ```
    fn read(&mut self, bar: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// The client writes a BAR.
    ///
    /// # Errors
    ///
    /// Go to the client.
    ///
    /// ```
    /// # use vfio_irq_user::{Bus, Device, Errno};
    /// # struct Board { bells: Vec<u32> }
    /// # impl Device for Board {
    /// #     fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn reset(&mut self) {}
    /// fn write(&mut self, _bar: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
    ///     // Doorbells are words from 0x1000 on. A guest decides offset and length, so check both.
    ///     let value = u32::from_le_bytes(data.try_into().map_err(|_| Errno::EINVAL)?);
    ///     let number = offset.checked_sub(0x1000).ok_or(Errno::EINVAL)? / 4;
    ///     *self.bells.get_mut(number as usize).ok_or(Errno::EINVAL)? = value;
    ///     Ok(())
    /// }
    /// # }
    /// let mut board = Board { bells: vec![0; 2] };
    /// assert_eq!(board.write(0, 0x1004, &7_u32.to_le_bytes()), Ok(()));
    /// assert_eq!(board.write(0, 0x1008, &[0; 4]), Err(Errno::EINVAL));
    /// # assert_eq!(board.bells, [0, 7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn write(&mut self, bar: u32, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// Puts the device back to how it comes up: the client resets it, or has left. What a client that
    /// stays has attached to interrupts stays as well (`CONTRACT.md`, V-12). Bus Master Enable is off
    /// afterwards, which [`Device::bus_master`] is told if it was on.
    ///
    /// ```
    /// # let (client, bus, _server) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.rs"));
    /// # use {rustix::event::{EventfdFlags, eventfd}, std::os::fd::AsFd, vfio_irq_user::{Raised, abi::Index}};
    /// # let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
    /// client.attach(Index::Msix, 0, &[fd.as_fd()])?;
    /// client.reset()?;
    /// // The device forgets its registers; who is to be told of an interrupt is the client's to say.
    /// assert_eq!(bus.interrupts.raise(0), Raised::Signalled);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn reset(&mut self);

    /// A client has come, and agreed on a version.
    ///
    /// ```
    /// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    /// # use vfio_irq_user::{Client, ClientOptions, Device, Errno, Options, Server};
    /// # let (folder, server) = (tempfile::tempdir()?, Server::start(Options::default())?);
    /// # struct Board(std::sync::mpsc::Sender<&'static str>);
    /// # impl Device for Board {
    /// #     fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn reset(&mut self) {}
    /// fn connected(&mut self) {
    ///     let _ = self.0.send("a client came");
    /// }
    /// # }
    /// let (diary, seen) = std::sync::mpsc::channel();
    /// # let path = folder.path().join("device.sock");
    /// server.add(&path, function, |_| Board(diary))?;
    /// let client = Client::connect(&path, ClientOptions::default())?;
    /// assert_eq!(seen.recv()?, "a client came");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn connected(&mut self) {}

    /// The client is gone. Its interrupts go next, then [`Device::reset`] is called, and then its
    /// memory goes: the next client finds the device as it comes up.
    ///
    /// ```
    /// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    /// # use vfio_irq_user::{Client, ClientOptions, Device, Errno, Options, Server};
    /// # let (folder, server) = (tempfile::tempdir()?, Server::start(Options::default())?);
    /// # let path = folder.path().join("device.sock");
    /// # struct Board(std::sync::mpsc::Sender<bool>, vfio_irq_user::Bus);
    /// # impl Device for Board {
    /// #     fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn reset(&mut self) {}
    /// fn disconnected(&mut self) {
    ///     // Last words: the memory can still be reached.
    ///     let _ = self.0.send(self.1.memory.covers(0, 0x1000));
    /// }
    /// # }
    /// # let (diary, seen) = std::sync::mpsc::channel();
    /// server.add(&path, function, |bus| Board(diary, bus))?;
    /// let client = Client::connect(&path, ClientOptions::default())?;
    /// client.dma_map(0, 0x1000, None)?;
    /// drop(client);
    /// assert!(seen.recv()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn disconnected(&mut self) {}

    /// The client has mapped memory: so many bytes at this address.
    ///
    /// ```
    /// # use vfio_irq_user::{Device, Errno};
    /// # #[derive(Default)]
    /// # struct Board { total: u64 }
    /// # impl Device for Board {
    /// #     fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn reset(&mut self) {}
    /// fn mapped(&mut self, _address: u64, size: u64) {
    ///     self.total = self.total.saturating_add(size);
    /// }
    /// # }
    /// let mut board = Board::default();
    /// board.mapped(0, 2 << 30);
    /// board.mapped(4 << 30, 6 << 30);
    /// assert_eq!(board.total, 8 << 30, "bytes of the guest's memory");
    /// ```
    fn mapped(&mut self, address: u64, size: u64) {
        let _ = (address, size);
    }

    /// The client is about to take memory away. It waits for accesses that are under way by itself; a
    /// device that has more in flight on it than single accesses ends that here.
    ///
    /// ```
    /// # use vfio_irq_user::{Device, Errno};
    /// # struct Board { rings: Vec<u64> }
    /// # impl Device for Board {
    /// #     fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn reset(&mut self) {}
    /// fn unmapping(&mut self, address: u64, size: u64) {
    ///     // Rings in that memory are not looked at any more.
    ///     self.rings.retain(|ring| !(address..address.saturating_add(size)).contains(ring));
    /// }
    /// # }
    /// let mut board = Board { rings: vec![0x1000, 0x8000] };
    /// board.unmapping(0x8000, 0x1000);
    /// assert_eq!(board.rings, [0x1000]);
    /// ```
    fn unmapping(&mut self, address: u64, size: u64) {
        let _ = (address, size);
    }

    /// The client allows or forbids the device to reach for memory (bit 2 of the
    /// command register, Bus Master Enable).
    ///
    /// ```
    /// # use vfio_irq_user::{Device, Errno};
    /// # struct Board { may_fetch: bool }
    /// # impl Device for Board {
    /// #     fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> { Ok(()) }
    /// #     fn reset(&mut self) {}
    /// fn bus_master(&mut self, on: bool) {
    ///     // A guest turns it off before it takes memory back: fetch no command from now on.
    ///     self.may_fetch = on;
    /// }
    /// # }
    /// # let mut board = Board { may_fetch: true };
    /// board.bus_master(false);
    /// assert!(!board.may_fetch);
    /// ```
    fn bus_master(&mut self, on: bool) {
        let _ = on;
    }
}

/// A device with all that is emulated around it. It outlives the clients that come and go, and each
/// of them finds it as after a reset.
///
/// ```
/// use vfio_irq_user::{Endpoint, Grants, Session};
/// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
/// let mut endpoint = Endpoint::new(function, make);
/// // One client after another.
/// drop(Session::new(&mut endpoint, Grants { transfer: 4096, dma_maps: 16 }));
/// let next = Session::new(&mut endpoint, Grants { transfer: 4096, dma_maps: 16 });
/// assert_eq!(next.limits(), None, "nothing is agreed on yet");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Endpoint {
    pub(crate) device: Box<dyn Device>,
    pub(crate) function: Function,
    pub(crate) config: Config,
    pub(crate) table: MsixTable,
    pub(crate) irqs: Arc<Table>,
    pub(crate) memory: Memory,
}

impl Endpoint {
    /// Puts a device on its bus.
    ///
    /// ```
    /// use vfio_irq_user::{Endpoint, Raised};
    /// # let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    /// let mut kept = None;
    /// let endpoint = Endpoint::new(function, |bus| {
    ///     kept = Some(bus.clone());
    ///     make(bus)
    /// });
    /// // The bus is there before any client is.
    /// let bus = kept.ok_or("not called")?;
    /// assert_eq!(bus.interrupts.raise(0), Raised::Dropped);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new<D: Device + 'static>(function: Function, make: impl FnOnce(Bus) -> D) -> Self {
        let irqs = Arc::new(Table::new(function.vectors()));
        let memory = Memory::default();
        let bus = Bus { interrupts: Interrupts(Arc::clone(&irqs)), memory: memory.clone() };
        Self {
            device: Box::new(make(bus)),
            config: function.config.clone(),
            table: MsixTable::new(function.msix),
            function,
            irqs,
            memory,
        }
    }

    /// Bytes of a region; 0 where there is none, `None` beyond the last index.
    pub(crate) fn region_size(&self, index: u32) -> Option<u64> {
        match index {
            region::CONFIG => Some(self.config.size()),
            region::COUNT.. => None,
            _ => {
                let bar = self.function.bars.get(index as usize).and_then(Option::as_ref);
                Some(bar.map_or(0, |bar| bar.size))
            }
        }
    }

    /// `EINVAL` unless the region is there and reaches that far.
    pub(crate) fn check(&self, index: u32, end: u64) -> Result<(), Errno> {
        let size = self.region_size(index).filter(|size| *size > 0 && end <= *size);
        size.map(drop).ok_or(Errno::EINVAL)
    }

    pub(crate) fn read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.check(index, offset.saturating_add(data.len() as u64))?;
        let irqs = Interrupts(Arc::clone(&self.irqs));
        let pending = |vector| irqs.is_pending(vector);
        if index == region::CONFIG {
            self.config.read(offset, data, irqs.line_is_asserted(), pending);
            return Ok(());
        }
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let (part, len) = self.table.part(index, at);
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = std::mem::take(&mut rest).split_at_mut(len);
            match part {
                Part::Device => self.device.read(index, at, now)?,
                Part::Table(from) => self.table.read(from, now),
                Part::Pending(from) => MsixTable::read_pending(from, now, pending),
            }
            at = at.saturating_add(len as u64);
            rest = later;
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.check(index, offset.saturating_add(data.len() as u64))?;
        if index == region::CONFIG {
            let effects = self.config.write(offset, data);
            self.take_effect(effects);
            return Ok(());
        }
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let (part, len) = self.table.part(index, at);
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(len);
            match part {
                Part::Device => self.device.write(index, at, now)?,
                Part::Table(from) => self.table.write(from, now),
                // Pending bits are read only.
                Part::Pending(_) => {}
            }
            at = at.saturating_add(len as u64);
            rest = later;
        }
        Ok(())
    }

    fn take_effect(&mut self, effects: Effects) {
        if let Some(command) = effects.command {
            self.irqs.switch_line(command & crate::pci::INTX_OFF != 0);
            self.device.bus_master(command & crate::pci::BUS_MASTER != 0);
        }
        if let Some((before, now)) = effects.msi_mask {
            self.irqs.mask_register(self.function.shape.msi, before, now);
        }
        if let Some(masked) = effects.function_mask {
            self.irqs.mask_function(masked);
        }
        if effects.reset {
            self.reset();
        }
    }

    /// Puts everything back to how the device comes up, but for what the client has attached to its
    /// interrupts.
    pub(crate) fn reset(&mut self) {
        // First the device, whose threads raise interrupts, and may wait for the client. Then what they
        // have raised is forgotten, before masks are cleared, which would deliver it.
        let quiesced = self.memory.quiesce();
        self.device.reset();
        drop(quiesced);
        self.irqs.forget();
        self.table.reset();
        let effects = self.config.reset(&self.function.config);
        self.take_effect(effects);
    }
}
