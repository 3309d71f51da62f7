//! A device behind a vfio-user socket, served by any process.

use super::{Core, Counted, Target};
use crate::devices::{Function, Identity, Kind, Registers, Stimulus};
use crate::eventfd::Eventfds;
use crate::sys::Mapping;
use crate::vfio::{COMMAND, COMMAND_MASTER, COMMAND_MEMORY, DMA_IOVA, DMA_LEN, Dma, Facts};
use crate::{Answer, Error, Index, flags};
use rustix::fs::MemfdFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_irq_user::wire::Command;
use vfio_irq_user::{Client, ClientError, ClientOptions};

const CONFIG: u32 = 7;
/// The longest wait for a server to take a signal of an armed eventfd, and to detach the vectors of
/// a client that is gone.
const SOON: Duration = Duration::from_secs(1);

/// What a test that serves the device itself can do besides.
pub trait Board {
    /// Returns how many vectors of the index, from 0 on, can be raised.
    fn reach(&self, index: Index) -> u32;

    /// Raises a vector, or asserts INTx.
    fn raise(&mut self, index: Index, vector: u32);

    /// Deasserts INTx.
    fn acknowledge(&mut self);

    /// Returns the counts of a vector since the device is served.
    fn counted(&self, vector: u32) -> Counted;

    /// Returns the vectors of MSI or MSI-X that have an eventfd.
    fn attached(&self) -> Vec<u32>;
}

/// A device behind a socket.
///
/// The rules speak of ioctls. What no message can carry is [`Error::Uncarried`]: an address, a size
/// that is not that of the data, a descriptor of -1 among others. A descriptor that is not open
/// cannot be sent; a file that is no eventfd stands in for it.
pub struct Socket {
    path: PathBuf,
    core: Core,
    board: Option<Box<dyn Board>>,
    facts: Facts,
    kind: Option<Kind>,
    open: Option<Opened>,
    eventfds: Eventfds,
    files: BTreeMap<i32, OwnedFd>,
    /// Active indexes. A server may accept a request to disable an idle index, which the rules
    /// refuse.
    active: BTreeSet<u32>,
    /// What the board had counted before the device was opened.
    counted: BTreeMap<u32, Counted>,
}

struct Opened {
    // Dropped before the client, because it holds the device's registers.
    stimulus: Option<Box<dyn Stimulus>>,
    client: Arc<Client>,
}

/// Registers of a BAR, by messages.
struct Bar {
    client: Arc<Client>,
    number: u32,
}

impl Registers for Bar {
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
        Ok(self.client.region_read(self.number, offset as u64, bytes)?)
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.client.region_write(self.number, offset as u64, bytes)?)
    }
}

impl Function for Arc<Client> {
    fn registers(&self, bar: u32) -> Result<Arc<dyn Registers>, Error> {
        Ok(Arc::new(Bar { client: Self::clone(self), number: bar }))
    }

    fn config(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        Ok(self.region_read(CONFIG, at, bytes)?)
    }
}

impl Socket {
    /// Connects to a device. `board` raises its interrupts; without one, the device has to be of a
    /// known kind.
    pub fn new(
        path: impl Into<PathBuf>,
        core: Core,
        board: Option<Box<dyn Board>>,
    ) -> Result<Self, Error> {
        let mut socket = Self {
            path: path.into(),
            core,
            board,
            facts: Facts::default(),
            kind: None,
            open: None,
            eventfds: Eventfds::default(),
            files: BTreeMap::new(),
            active: BTreeSet::new(),
            counted: BTreeMap::new(),
        };
        let client = Client::connect(&socket.path, ClientOptions::default())?;
        let config = |at, bytes: &mut [u8]| Ok(client.region_read(CONFIG, at, bytes)?);
        socket.facts = Facts::read(&config)?;
        let mut head = [0; 12];
        config(0, &mut head)?;
        let [v, w, d, e, .., _, interface, subclass, base] = head;
        socket.kind = Kind::of(Identity {
            vendor: u16::from_le_bytes([v, w]),
            device: u16::from_le_bytes([d, e]),
            class: u32::from_be_bytes([0, base, subclass, interface]),
        });
        drop(client);
        socket.open()?;
        Ok(socket)
    }

    fn opened(&mut self) -> Result<&mut Opened, Error> {
        let closed = || Error::Table("the device is closed at the moment".into());
        self.open.as_mut().ok_or_else(closed)
    }

    fn client(&self) -> Result<&Client, Error> {
        let closed = || Error::Table("the device is closed at the moment".into());
        Ok(&self.open.as_ref().ok_or_else(closed)?.client)
    }

    fn stimulus(&mut self, index: Index, vector: u32) -> Result<&mut dyn Stimulus, Error> {
        let unraisable = Error::Unraisable { index, vector };
        Ok(self.opened()?.stimulus.as_mut().ok_or(unraisable)?.as_mut())
    }

    fn file(&self, fd: i32) -> Option<BorrowedFd<'_>> {
        let eventfd = self.eventfds.get(fd).ok().map(AsFd::as_fd);
        eventfd.or_else(|| self.files.get(&fd).map(AsFd::as_fd))
    }

    fn call(
        &self,
        command: Command,
        payload: &[u8],
        fds: &[i32],
    ) -> Result<(Answer, Vec<u8>), Error> {
        let input = std::io::stdin();
        let find = |fd: &i32| if *fd == 0 { Some(input.as_fd()) } else { self.file(*fd) };
        let Some(found) = fds.iter().map(find).collect::<Option<Vec<_>>>() else {
            return Ok((self.call_closed(command, payload, fds.len())?, Vec::new()));
        };
        match self.client()?.call(command, payload, &found) {
            Ok((payload, _)) => Ok((Answer::OK, payload)),
            Err(ClientError::Refused { errno, .. }) => Ok((Answer(-errno.raw()), Vec::new())),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a file of no use for each descriptor. The server refuses it with EINVAL where a kernel
    /// refuses a closed descriptor with EBADF, unless the request is refused for another reason: one
    /// of INTx, MSI and MSI-X is active, and the request is for another.
    fn call_closed(&self, command: Command, payload: &[u8], fds: usize) -> Result<Answer, Error> {
        let file = useless_file()?;
        let others = |index: &u32| *index < 3 && *index != word(payload, 8);
        match self.client()?.call(command, payload, &vec![file.as_fd(); fds]) {
            Err(ClientError::Refused { errno, .. }) => match Answer(-errno.raw()) {
                Answer::EINVAL if !self.active.iter().any(others) => Ok(Answer::EBADF),
                answer => Ok(answer),
            },
            Ok(_) => Ok(Answer::OK),
            Err(error) => Err(error.into()),
        }
    }

    /// Records which index a request has enabled or disabled. Returns the answer, or EINVAL if the
    /// server accepted a request to disable an idle index.
    fn record(&mut self, head: &[u8], attaches: bool, answer: Answer) -> Answer {
        let (action, index, count) = (word(head, 4), word(head, 8), word(head, 16));
        if answer != Answer::OK || action & flags::TRIGGER == 0 {
            return answer;
        }
        if action & flags::FDS != 0 {
            // INTx, MSI and MSI-X are active with nothing attached, ERR and REQ are not.
            if attaches || index < 3 {
                self.active.insert(index);
            } else {
                self.active.remove(&index);
            }
        } else if action & flags::NONE != 0 && count == 0 && !self.active.remove(&index) {
            return Answer::EINVAL;
        }
        answer
    }
}

fn useless_file() -> Result<OwnedFd, Error> {
    let opened = |source| Error::Descriptor { what: "opened", source };
    rustix::fs::memfd_create("vfio-irq", MemfdFlags::CLOEXEC).map_err(opened)
}

/// Returns a word of a request, or 0 behind its end.
fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    word.map_or(0, |word| u32::from_ne_bytes(*word))
}

impl Target for Socket {
    fn core(&self) -> Core {
        self.core
    }

    fn facts(&self) -> Facts {
        self.facts
    }

    fn get_irq_info(&mut self, bytes: &mut [u8]) -> Result<Answer, Error> {
        if bytes.len() != 16 {
            return Err(Error::Uncarried);
        }
        let (answer, payload) = self.call(Command::DeviceGetIrqInfo, bytes, &[])?;
        // The reply's argsz is the size that the server needs. The ioctl leaves the caller's.
        if let (Some(into), Some(from)) = (bytes.get_mut(4..), payload.get(4..16)) {
            into.copy_from_slice(from);
        }
        Ok(answer)
    }

    fn get_irq_info_unwritable(&mut self, _: &[u8]) -> Result<Option<Answer>, Error> {
        Ok(None)
    }

    fn set_irqs(&mut self, bytes: &[u8]) -> Result<Answer, Error> {
        let (head, data) = bytes.split_at_checked(20).ok_or(Error::Uncarried)?;
        let (argsz, action, count) = (word(head, 0), word(head, 4), word(head, 16));
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if action & flags::FDS == 0 {
            let len = if action & flags::BOOL != 0 { count } else { 0 };
            if data.len() != len {
                return Err(Error::Uncarried);
            }
            let (answer, _) = self.call(Command::DeviceSetIrqs, bytes, &[])?;
            return Ok(self.record(head, false, answer));
        }
        let len = count.saturating_mul(4);
        if data.len() != len || (argsz >= 20 && u64::from(argsz) != 20 + len as u64) {
            return Err(Error::Uncarried);
        }
        let fds: Vec<i32> = data.chunks_exact(4).map(|fd| word(fd, 0).cast_signed()).collect();
        let detaches = fds.iter().all(|fd| *fd == -1);
        if !detaches && fds.iter().any(|fd| *fd < 0) {
            return Err(Error::Uncarried);
        }
        let sent = if detaches { &[] } else { fds.as_slice() };
        let (answer, _) = self.call(Command::DeviceSetIrqs, head, sent)?;
        Ok(self.record(head, !detaches, answer))
    }

    fn eventfd(&mut self) -> Result<i32, Error> {
        self.eventfds.create()
    }

    fn other_file(&mut self) -> Result<i32, Error> {
        let file = useless_file()?;
        let number = file.as_raw_fd();
        self.files.insert(number, file);
        Ok(number)
    }

    fn signals(&mut self, fd: i32) -> Result<u64, Error> {
        Ok(self.eventfds.get(fd)?.take())
    }

    fn wait(&mut self, fd: i32) -> Result<bool, Error> {
        Ok(self.eventfds.get(fd)?.wait())
    }

    fn signal(&mut self, fd: i32) -> Result<(), Error> {
        self.eventfds.get(fd)?.signal()?;
        // If the server polls the eventfd, it takes the signal. Otherwise the signal stays.
        let until = Instant::now() + SOON / 10;
        while self.eventfds.get(fd)?.is_signalled() && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(200));
        }
        // The server has acted before it answers the next message.
        self.client()?.device_info()?;
        Ok(())
    }

    fn reach(&self, index: Index) -> u32 {
        let there = match index {
            Index::Intx => u32::from(self.facts.pin),
            Index::Msi => self.facts.msi,
            Index::Msix => self.facts.msix,
            Index::Err | Index::Req => 0,
        };
        let stimulus = self.open.as_ref().and_then(|opened| opened.stimulus.as_ref());
        let own = stimulus.map_or(0, |stimulus| stimulus.reach(index));
        self.board.as_ref().map_or(own, |board| board.reach(index)).min(there)
    }

    fn ready(&mut self, index: Index, vectors: u32) -> Result<(), Error> {
        if self.board.is_some() {
            return Ok(());
        }
        self.stimulus(index, vectors.saturating_sub(1))?.ready(index, vectors)
    }

    fn raise(&mut self, index: Index, vector: u32) -> Result<(), Error> {
        match &mut self.board {
            Some(board) => {
                board.raise(index, vector);
                Ok(())
            }
            None => self.stimulus(index, vector)?.raise(index, vector),
        }
    }

    fn acknowledge(&mut self) -> Result<bool, Error> {
        match &mut self.board {
            Some(board) => board.acknowledge(),
            None => self.stimulus(Index::Intx, 0)?.acknowledge()?,
        }
        Ok(true)
    }

    fn allocated(&self) -> Option<usize> {
        None
    }

    fn attached(&self) -> Option<Vec<u32>> {
        self.board.as_ref().map(|board| board.attached())
    }

    fn counted(&self, vector: u32) -> Option<Counted> {
        let now = self.board.as_ref()?.counted(vector);
        let before = self.counted.get(&vector).copied().unwrap_or_default();
        Some(now.since(before))
    }

    fn known(&self) -> Option<Vec<u32>> {
        None
    }

    fn handlers(&self) -> Option<Vec<String>> {
        None
    }

    fn reset(&mut self) -> Result<bool, Error> {
        self.client()?.reset()?;
        enable_memory_and_master(self.client()?)?;
        Ok(true)
    }

    fn close(&mut self) -> Result<(), Error> {
        self.open = None;
        self.eventfds.clear();
        self.files.clear();
        self.active.clear();
        Ok(())
    }

    fn leaks(&self) -> Option<String> {
        let board = self.board.as_ref().filter(|_| self.open.is_none())?;
        let until = Instant::now() + SOON;
        loop {
            let attached = board.attached();
            if attached.is_empty() {
                return None;
            }
            if Instant::now() > until {
                return Some(format!("vectors {attached:?} are attached"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn open(&mut self) -> Result<(), Error> {
        self.close()?;
        if let Some(board) = &mut self.board {
            board.acknowledge();
            self.counted =
                (0..self.facts.msix).map(|vector| (vector, board.counted(vector))).collect();
        }
        let client = Arc::new(Client::connect(&self.path, ClientOptions::default())?);
        client.reset()?;
        enable_memory_and_master(&client)?;
        let stimulus = match self.kind.filter(|_| self.board.is_none()) {
            Some(kind) => kind.stimulus(&client, dma(&client)?)?,
            None => None,
        };
        self.open = Some(Opened { stimulus, client });
        Ok(())
    }
}

/// Enables memory decoding and bus mastering, which a reset disables.
fn enable_memory_and_master(client: &Client) -> Result<(), Error> {
    let command = COMMAND_MEMORY | COMMAND_MASTER;
    Ok(client.region_write(CONFIG, COMMAND, &command.to_le_bytes())?)
}

/// Maps memory for the device's DMA.
fn dma(client: &Client) -> Result<Arc<Dma>, Error> {
    let file = useless_file()?;
    let set = rustix::fs::ftruncate(&file, DMA_LEN as u64);
    set.map_err(|source| Error::Descriptor { what: "enlarged", source })?;
    client.dma_map(DMA_IOVA, DMA_LEN as u64, Some((file.as_fd(), 0)))?;
    let memory = Mapping::of_device(file.as_fd(), 0, DMA_LEN)?;
    Ok(Arc::new(Dma { memory, iova: DMA_IOVA }))
}
