//! A device to talk to, and ways to talk to it that no client has.
#![allow(dead_code, clippy::cast_possible_truncation)]

use rustix::event::{EventfdFlags, eventfd};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vfio_irq_user::pci::{Bar, Builder, Function, IoEventfd};
use vfio_irq_user::wire::{Area, Command, Header};
use vfio_irq_user::{Bus, Client, ClientOptions, Device, Errno, Options, Server, ServerError};

/// Bytes of the device's own registers, before the table.
pub const REGISTERS: u64 = 0x1000;
pub const TABLE: u32 = 0x2000;
pub const PENDING: u32 = 0x3000;
pub const VECTORS: u32 = 64;
/// A write of a vector's number here raises it.
pub const RAISE: u64 = 0xff0;
/// A write of anything here returns once the test says so ([`Diary::hold`]).
pub const HOLD: u64 = 0xfe8;
/// A write of anything here is refused.
pub const REFUSES: u64 = 0xff8;

/// What happened to a device, for the test to look at.
#[derive(Default)]
pub struct Diary {
    pub bus: Option<Bus>,
    pub resets: usize,
    pub clients: usize,
    pub gone: usize,
    pub mapped: Vec<(u64, u64)>,
    pub unmapped: Vec<(u64, u64)>,
    pub bus_master: Option<bool>,
    /// Whether the client's first page was mapped when [`Device::disconnected`] was called.
    pub mapped_at_end: Option<bool>,
    /// What a write to [`HOLD`] waits for.
    pub hold: Option<std::sync::mpsc::Receiver<()>>,
}

/// Registers that keep what is written, and raise vectors.
pub struct Board {
    bus: Bus,
    registers: Vec<u8>,
    pub diary: Arc<Mutex<Diary>>,
}

impl Device for Board {
    fn read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        for (at, byte) in (offset..).zip(data) {
            *byte = self.registers.get(at as usize).copied().unwrap_or(0xee);
        }
        Ok(())
    }

    fn write(&mut self, _: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        match offset {
            REFUSES => return Err(Errno::ENXIO),
            HOLD => {
                let held = self.diary.lock().unwrap().hold.take();
                // An error is as good: the test is over.
                let _ = held.map(|held| held.recv());
            }
            RAISE => {
                let vector = u32::from_le_bytes(data.try_into().map_err(|_| Errno::EINVAL)?);
                self.bus.interrupts.raise(vector);
            }
            _ => {}
        }
        for (at, byte) in (offset..).zip(data) {
            if let Some(place) = self.registers.get_mut(at as usize) {
                *place = *byte;
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.registers.fill(0);
        self.diary.lock().unwrap().resets += 1;
    }

    fn connected(&mut self) {
        self.diary.lock().unwrap().clients += 1;
    }

    fn disconnected(&mut self) {
        let mut diary = self.diary.lock().unwrap();
        diary.gone += 1;
        diary.mapped_at_end = Some(self.bus.memory.covers(0, 0x1000));
    }

    fn mapped(&mut self, address: u64, size: u64) {
        self.diary.lock().unwrap().mapped.push((address, size));
    }

    fn unmapping(&mut self, address: u64, size: u64) {
        self.diary.lock().unwrap().unmapped.push((address, size));
    }

    fn bus_master(&mut self, on: bool) {
        self.diary.lock().unwrap().bus_master = Some(on);
    }
}

/// A file in memory.
pub fn memfd(size: u64) -> OwnedFd {
    let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&fd, size).unwrap();
    fd
}

/// An eventfd that does not block.
pub fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// How often it was signalled since it was asked last.
pub fn signals(fd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(fd, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(_) => 0,
    }
}

/// Waits for signals.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Registers that keep what is written, and nothing else.
pub struct Registers(pub Vec<u8>);

impl Device for Registers {
    fn read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.copy_from_slice(&self.0[offset as usize..][..data.len()]);
        Ok(())
    }

    fn write(&mut self, _: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.0[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn reset(&mut self) {}
}

/// A server with a device of the test's own, and where it listens.
pub struct Served {
    pub server: Server,
    pub path: PathBuf,
    pub folder: tempfile::TempDir,
}

pub fn serve<D: Device + 'static>(
    options: Options,
    function: Builder,
    make: impl FnOnce(Bus) -> D,
) -> Served {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(options).unwrap());
    let path = folder.path().join("device.sock");
    server.add(&path, function.build().unwrap(), make).unwrap();
    Served { server, path, folder }
}

/// A server with one board, and where it listens.
pub struct Setup {
    pub server: Server,
    pub diary: Arc<Mutex<Diary>>,
    pub doorbells: Vec<Arc<OwnedFd>>,
    pub shared: Arc<OwnedFd>,
    pub path: PathBuf,
    pub folder: tempfile::TempDir,
}

pub fn options() -> Options {
    Options {
        stall: Duration::from_millis(700),
        handshake: Duration::from_millis(700),
        succession: Duration::from_millis(300),
        ..Options::default()
    }
}

pub fn function(doorbells: &[Arc<OwnedFd>], shared: &Arc<OwnedFd>) -> Function {
    let mut registers = Bar::memory64(0x4000);
    for (i, fd) in doorbells.iter().enumerate() {
        let offset = 0x800 + 4 * i as u64;
        registers = registers.io_eventfd(IoEventfd {
            offset,
            size: 4,
            datamatch: None,
            fd: Arc::clone(fd),
        });
    }
    let areas = vec![Area { offset: 0x1000, size: 0x1000 }, Area { offset: 0x3000, size: 0x1000 }];
    Function::builder(0x1234, 0x5678)
        .class(0x08, 0x80, 0)
        .subsystem(0x1af4, 0x1100)
        .revision(3)
        .bar(0, registers)
        .bar(2, Bar::memory32(0x4000).prefetchable().shared(Arc::clone(shared), 0x1000, areas))
        .bar(4, Bar::io(64))
        .pin(1)
        .msi(8, true)
        .msix(VECTORS, 0, TABLE, PENDING)
        .power_management()
        .pcie()
        .build()
        .unwrap()
}

impl Setup {
    pub fn new() -> Self {
        Self::with(options())
    }

    pub fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(options).unwrap();
        let diary = Arc::new(Mutex::new(Diary::default()));
        let doorbells: Vec<_> = (0..4).map(|_| Arc::new(event())).collect();
        let shared = Arc::new(memfd(0x5000));
        let path = folder.path().join("board.sock");
        let its = Arc::clone(&diary);
        server
            .add(&path, function(&doorbells, &shared), |bus| {
                its.lock().unwrap().bus = Some(bus.clone());
                Board { bus, registers: vec![0; REGISTERS as usize], diary: Arc::clone(&its) }
            })
            .unwrap();
        Self { server, diary, doorbells, shared, path, folder }
    }

    /// A second device; where it listens.
    pub fn add(&self, name: &str) -> PathBuf {
        self.try_add(name).unwrap();
        self.folder.path().join(name)
    }

    pub fn try_add(&self, name: &str) -> Result<(), ServerError> {
        let diary = Arc::new(Mutex::new(Diary::default()));
        let make = |bus| Board { bus, registers: vec![0; REGISTERS as usize], diary };
        self.server.add(self.folder.path().join(name), function(&[], &self.shared), make)
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.path, ClientOptions::default()).unwrap()
    }

    pub fn bus(&self) -> Bus {
        self.diary.lock().unwrap().bus.clone().unwrap()
    }

    /// A connection that has said nothing yet.
    pub fn raw(&self) -> Raw {
        Raw(UnixStream::connect(&self.path).unwrap())
    }

    /// A connection that has agreed on a version.
    pub fn agreed(&self) -> Raw {
        Raw::agreed(&self.path)
    }
}

/// A socket for sending what no client sends.
pub struct Raw(pub UnixStream);

impl Raw {
    /// Connects, and agrees on a version.
    pub fn agreed(path: &Path) -> Self {
        let mut raw = Self(UnixStream::connect(path).unwrap());
        raw.send(1, Command::Version.raw(), 0, &[0, 0, 1, 0], &[]);
        let (header, _) = raw.reply().expect("an answer to VERSION");
        assert_eq!(header.errno(), None);
        raw
    }

    pub fn send(
        &mut self,
        id: u16,
        command: u16,
        flags: u32,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) {
        let size = (payload.len() + Header::LEN) as u32;
        let header = Header { id, command, size, flags, error: 0 };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(payload);
        self.send_bytes(&bytes, fds);
    }

    pub fn send_bytes(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let sent =
            sendmsg(&self.0, &[std::io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
        if let Ok(sent) = sent {
            let _ = self.0.write_all(&bytes[sent..]);
        }
    }

    /// The next message; `None` when the server has closed the connection.
    pub fn reply(&mut self) -> Option<(Header, Vec<u8>)> {
        self.0.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut head = [0; Header::LEN];
        self.0.read_exact(&mut head).ok()?;
        let header = Header::from_bytes(&head);
        let mut payload = vec![0; header.size as usize - Header::LEN];
        self.0.read_exact(&mut payload).ok()?;
        Some((header, payload))
    }

    /// Sends a command and gives back the error of its reply.
    pub fn ask(
        &mut self,
        command: Command,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Option<Errno> {
        self.send(9, command.raw(), 0, payload, fds);
        let (header, payload) = self.reply().unwrap_or_else(|| panic!("no reply to {command:?}"));
        assert_eq!((header.id, header.command), (9, command.raw()));
        assert!(header.is_reply());
        assert!(header.errno().is_none() || payload.is_empty(), "an error reply has no payload");
        header.errno()
    }

    /// Whether the server closes the connection, whatever it says before.
    pub fn is_closed(&mut self) -> bool {
        loop {
            if self.reply().is_none() {
                let closed = matches!(self.0.read(&mut [0; 1]), Ok(0));
                return closed || self.0.write(&[0]).is_err();
            }
        }
    }
}

pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

pub fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

/// The payload of a GET_INFO.
pub fn info() -> Vec<u8> {
    words(&[16, 0, 0, 0])
}

/// The payload of a DMA_MAP that the device may read and write, from the start of the file if a
/// descriptor goes with it.
pub fn map(address: u64, size: u64) -> Vec<u8> {
    [words(&[32, 3]), longs(&[0, address, size])].concat()
}

/// The payload of a DMA_UNMAP.
pub fn unmap(address: u64, size: u64) -> Vec<u8> {
    [words(&[24, 0]), longs(&[address, size])].concat()
}

pub fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

/// Descriptors that this process has open.
pub fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
