//! A guest of a few megabytes: queues in memory, doorbells, interrupts that are counted.

use rustix::event::{EventfdFlags, eventfd};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};
use vfio_irq_nvme_device::{Controller, Counts, Disk, Settings};
use vfio_irq_user::abi::Index;
use vfio_irq_user::pci::region::CONFIG;
use vfio_irq_user::{Client, ClientOptions, DmaHandler, Errno, Options, Server};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// Where the guest's memory begins, and how much there is.
pub const BASE: u64 = 0x10_0000;
pub const MEMORY: u64 = 32 << 20;
/// Where nothing is.
pub const NOWHERE: u64 = 0x7fff_0000_0000;
/// Data, and lists of pages.
pub const DATA: u64 = BASE + 0x40_0000;
pub const LISTS: u64 = BASE + 0x20_0000;
/// Doorbells in memory: their values, and from where on the controller wants to be rung.
pub const SHADOW: u64 = BASE + 0x10_0000;
pub const EVENTS: u64 = BASE + 0x11_0000;
/// Where queues are; each has three pages.
const QUEUES: u64 = BASE + 0x100_0000;

/// Memory that is served by messages.
pub const SLOW: u64 = BASE + (1 << 33);

pub const CC: u64 = 0x14;
pub const CSTS: u64 = 0x1c;
const ENABLE: u32 = 0x0046_0001;

/// A command to be.
#[derive(Clone, Copy, Debug)]
pub struct Cmd([u32; 16]);

impl Cmd {
    pub fn new(opcode: u8) -> Self {
        let mut words = [0; 16];
        words[0] = opcode.into();
        words[1] = 1;
        Self(words)
    }

    pub fn word(mut self, number: usize, value: u32) -> Self {
        self.0[number] = value;
        self
    }

    pub fn prp(self, first: u64, second: u64) -> Self {
        let half = |value: u64, shift: u64| (value >> shift & 0xffff_ffff) as u32;
        self.word(6, half(first, 0))
            .word(7, half(first, 32))
            .word(8, half(second, 0))
            .word(9, half(second, 32))
    }

    /// Blocks from `start` on.
    pub fn blocks(self, start: u64, count: u32) -> Self {
        self.word(10, start as u32)
            .word(11, (start >> 32) as u32)
            .word(12, count.wrapping_sub(1) & 0xffff)
    }
}

/// One pair of queues, as the guest keeps it.
#[derive(Clone, Copy)]
struct Pair {
    submission: u64,
    completion: u64,
    entries: u32,
    completions: u32,
    tail: u32,
    head: u32,
    phase: bool,
}

/// How a command ended: its status (type and code), and its first word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    pub id: u16,
    pub status: u16,
    pub result: u32,
}

/// Which doorbells are in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// As Linux does it: not those of the admin queue.
    Io,
    /// As the specification has it.
    All,
    /// All, and each write goes to the register as well, asked for or not.
    Twice,
}

struct Pages(Arc<OwnedFd>);

impl DmaHandler for Pages {
    fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        rustix::io::pread(&*self.0, data, address - BASE).map(drop).map_err(|_| Errno::EFAULT)
    }

    fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno> {
        if address >= SLOW {
            return Ok(());
        }
        rustix::io::pwrite(&*self.0, data, address - BASE).map(drop).map_err(|_| Errno::EFAULT)
    }
}

pub struct Guest {
    pub client: Client,
    pub counts: Counts,
    memory: Arc<OwnedFd>,
    shared: bool,
    posted: bool,
    words: MmapRegion,
    /// Doorbells are in memory: those of I/O queues, or of all.
    shadow: Option<Follow>,
    /// How far behind the first buffers those in use are.
    moved: u64,
    pairs: BTreeMap<u16, Pair>,
    events: BTreeMap<u32, OwnedFd>,
    next: u16,
    _server: Server,
    _folder: tempfile::TempDir,
}

/// A disk that is a file, as far as the controller knows.
pub fn file_disk() -> Disk {
    let file = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, 4 << 20).unwrap();
    Disk::open(format!("/proc/self/fd/{}", file.as_raw_fd()).as_ref()).unwrap()
}

impl Guest {
    /// A guest with so many queues, its disk in memory, and its memory shared with the controller.
    pub fn new(queues: u16) -> Self {
        Self::with(queues, Disk::memory(4 << 20).unwrap(), true)
    }

    pub fn with(queues: u16, disk: Disk, shared: bool) -> Self {
        Self::after(queues, disk, shared, |_| {})
    }

    /// A guest of a controller that had another client before.
    pub fn after(queues: u16, disk: Disk, shared: bool, before: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nvme.sock");
        let settings = Settings { queues, serial: "a test's".into() };
        let server = Server::start(Options::default()).unwrap();
        let mut counts = None;
        let make = |bus| {
            let controller = Controller::new(bus, disk, &settings);
            counts = Some(controller.counts());
            controller
        };
        server.add(&path, settings.function().unwrap(), make).unwrap();
        before(&path);
        let client = Client::connect(&path, ClientOptions::default()).unwrap();
        let memory = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memory, MEMORY).unwrap();
        let file = File::from(memory.try_clone().unwrap());
        let words = MmapRegion::from_file(FileOffset::new(file, 0), MEMORY as usize).unwrap();
        let memory = Arc::new(memory);
        client.set_dma_handler(Pages(Arc::clone(&memory)));
        let file = shared.then(|| (memory.as_fd(), 0));
        client.dma_map(BASE, MEMORY, file).unwrap();
        client.region_write(CONFIG, 4, &6_u16.to_le_bytes()).unwrap();
        Self {
            client,
            counts: counts.unwrap(),
            memory,
            words,
            shadow: None,
            moved: 0,
            shared,
            posted: false,
            pairs: BTreeMap::new(),
            events: BTreeMap::new(),
            next: 0,
            _server: server,
            _folder: folder,
        }
    }

    /// A guest whose controller is enabled.
    pub fn ready(queues: u16) -> Self {
        let mut guest = Self::new(queues);
        guest.enable();
        guest
    }

    pub fn set(&self, register: u64, value: u32) {
        self.client.region_write(0, register, &value.to_le_bytes()).unwrap();
    }

    pub fn get(&self, register: u64) -> u32 {
        let mut value = [0; 4];
        self.client.region_read(0, register, &mut value).unwrap();
        u32::from_le_bytes(value)
    }

    /// Sets the admin queues up and enables the controller.
    pub fn enable(&mut self) {
        self.attach(0);
        self.set(0x24, 31 | 31 << 16);
        for (register, value) in [(0x28, BASE), (0x30, BASE + 0x1000)] {
            self.client.region_write(0, register, &value.to_le_bytes()).unwrap();
        }
        self.clear(BASE + 0x1000, 32);
        self.set(CC, ENABLE);
        self.wait("ready", |guest| guest.get(CSTS) & 1 != 0);
        let pair = Pair { submission: BASE, completion: BASE + 0x1000, ..Self::pair(32) };
        self.pairs = BTreeMap::from([(0, pair)]);
        self.shadow = None;
    }

    pub fn disable(&mut self) {
        self.set(CC, ENABLE & !1);
        self.wait("not ready", |guest| guest.get(CSTS) & 3 == 0);
    }

    fn pair(entries: u32) -> Pair {
        let (submission, completion, completions) = (0, 0, entries);
        Pair { submission, completion, entries, completions, tail: 0, head: 0, phase: true }
    }

    fn clear(&self, address: u64, entries: u32) {
        self.write(address, &vec![0; 16 * entries as usize]);
    }

    /// Attaches an eventfd to a vector.
    pub fn attach(&mut self, vector: u32) {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        self.client.attach(Index::Msix, vector, &[event.as_fd()]).unwrap();
        self.events.insert(vector, event);
    }

    /// How often a vector was signalled since it was asked last.
    pub fn signals(&self, vector: u32) -> u64 {
        let mut count = [0; 8];
        let event = self.events.get(&vector).unwrap();
        rustix::io::read(event, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
    }

    /// Waits until a vector was signalled, which must be once: a completion is there first, its
    /// interrupt an instant later.
    pub fn interrupted(&mut self, vector: u16) {
        self.wait("interrupt", |guest| match guest.signals(vector.into()) {
            0 => false,
            1 => true,
            more => panic!("vector {vector} was signalled {more} times"),
        });
    }

    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        rustix::io::pread(&*self.memory, &mut data, address - BASE).unwrap();
        data
    }

    pub fn write(&self, address: u64, data: &[u8]) {
        rustix::io::pwrite(&*self.memory, data, address - BASE).unwrap();
    }

    /// Creates a completion and a submission queue of this number, with the vector of this number.
    pub fn create(&mut self, id: u16, entries: u32) {
        self.create_pair(id, entries, entries);
    }

    /// Creates queues of different lengths.
    pub fn create_pair(&mut self, id: u16, entries: u32, completions: u32) {
        let place = QUEUES + u64::from(id) * 0x3000;
        self.attach(id.into());
        self.clear(place + 0x2000, completions);
        let (low, id32) = (|entries: u32| u32::from(id) | (entries - 1) << 16, u32::from(id));
        let cq = Cmd::new(5).prp(place + 0x2000, 0).word(10, low(completions));
        let made = self.admin(cq.word(11, id32 << 16 | 3));
        assert_eq!(made.status, 0, "completion queue {id}");
        let sq = Cmd::new(1).prp(place, 0).word(10, low(entries)).word(11, id32 << 16 | 1);
        assert_eq!(self.admin(sq).status, 0, "submission queue {id}");
        let (submission, completion) = (place, place + 0x2000);
        self.pairs.insert(id, Pair { submission, completion, completions, ..Self::pair(entries) });
    }

    /// Creates a submission queue whose commands complete in another's completion queue.
    pub fn create_beside(&mut self, id: u16, entries: u32, completions: u16) {
        let place = QUEUES + u64::from(id) * 0x3000;
        let sq = Cmd::new(1).prp(place, 0).word(10, u32::from(id) | (entries - 1) << 16);
        let made = self.admin(sq.word(11, u32::from(completions) << 16 | 1));
        assert_eq!(made.status, 0, "submission queue {id}");
        self.pairs.insert(id, Pair { submission: place, ..Self::pair(entries) });
    }

    pub fn delete(&mut self, id: u16) {
        for opcode in [0, 4] {
            assert_eq!(self.admin(Cmd::new(opcode).word(10, id.into())).status, 0);
        }
        self.pairs.remove(&id);
    }

    /// Puts a command into a queue; its number.
    pub fn put(&mut self, queue: u16, cmd: Cmd) -> u16 {
        self.next = self.next.wrapping_add(1);
        let id = self.next;
        let pair = self.pairs.get_mut(&queue).unwrap();
        let place = pair.submission + u64::from(pair.tail) * 64;
        pair.tail = (pair.tail + 1) % pair.entries;
        let cmd = cmd.word(0, cmd.0[0] & 0xffff | u32::from(id) << 16);
        let bytes: Vec<u8> = cmd.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(place, &bytes);
        id
    }

    /// Tells the controller what was put into a queue; whether its register was needed.
    pub fn ring(&self, queue: u16) -> bool {
        let tail = self.pairs.get(&queue).unwrap().tail;
        self.tell(u64::from(queue) * 2, tail)
    }

    /// Writes the register.
    pub fn doorbell(&self, number: u64, value: u32) {
        let offset = 0x1000 + 4 * number;
        if self.posted {
            self.client.region_post(0, offset, &value.to_le_bytes()).unwrap();
        } else {
            self.set(offset, value);
        }
    }

    /// Maps memory that answers only when it is served: commands that use it take as long as the test
    /// likes. Doorbells do not wait for replies from now on, which would serve it.
    pub fn add_slow_memory(&mut self) {
        self.client.dma_map(SLOW, 1 << 20, None).unwrap();
        self.posted = true;
    }

    /// Has that memory served whenever something is waited for.
    pub fn serve_slow_memory(&mut self) {
        self.shared = false;
    }

    /// Writes a doorbell, in memory where it is there, and the register where the event index has
    /// been passed; whether that was so.
    fn tell(&self, number: u64, value: u32) -> bool {
        let all = matches!(self.shadow, Some(Follow::All | Follow::Twice));
        if number >= 2 && self.shadow.is_some() || all {
            let place = self.moved + 4 * number;
            let old = self.load(SHADOW + place);
            self.store(SHADOW + place, value);
            fence(Ordering::SeqCst);
            let event = self.load(EVENTS + place);
            let distance = |to: u32| (value as u16).wrapping_sub(to as u16);
            let asked = distance(event).wrapping_sub(1) < distance(old);
            if !asked && self.shadow != Some(Follow::Twice) {
                return false;
            }
        }
        self.doorbell(number, value);
        true
    }

    /// A word of the memory, at once.
    pub fn load(&self, address: u64) -> u32 {
        let at = (address - BASE) as usize;
        self.words.as_volatile_slice().load(at, Ordering::Acquire).unwrap()
    }

    pub fn store(&self, address: u64, value: u32) {
        let at = (address - BASE) as usize;
        self.words.as_volatile_slice().store(value, at, Ordering::Release).unwrap();
    }

    /// Has the controller look for doorbells in memory from now on; elsewhere, if they are there already.
    pub fn follow(&mut self, what: Follow) {
        let moved = if self.shadow.is_some() { 0x2_0000 - self.moved } else { 0 };
        for place in [SHADOW, EVENTS] {
            self.write(place + moved, &[0; 0x3000]);
        }
        assert_eq!(self.admin(Cmd::new(0x7c).prp(SHADOW + moved, EVENTS + moved)).status, 0);
        (self.shadow, self.moved) = (Some(what), moved);
    }

    /// Does not wait for the replies to doorbells from now on: they are heard of late.
    pub fn post_doorbells(&mut self) {
        self.posted = true;
    }

    /// Uses memory again, where the controller still looks.
    pub fn follow_again(&mut self, what: Follow) {
        self.shadow = Some(what);
    }

    /// Uses registers alone again, without telling the controller.
    pub fn unfollow(&mut self) {
        self.shadow = None;
    }

    /// The next completion of a queue, if it is there.
    pub fn look(&mut self, queue: u16) -> Option<End> {
        let pair = *self.pairs.get(&queue).unwrap();
        let bytes = self.read(pair.completion + u64::from(pair.head) * 16, 16);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let last = word(12);
        if (last >> 16 & 1 != 0) != pair.phase {
            return None;
        }
        let pair = self.pairs.get_mut(&queue).unwrap();
        pair.head = (pair.head + 1) % pair.completions;
        pair.phase ^= pair.head == 0;
        let (id, status) = ((last & 0xffff) as u16, (last >> 17 & 0x7ff) as u16);
        Some(End { id, status, result: word(0) })
    }

    /// Tells the controller what was taken out of a queue; whether its register was needed.
    pub fn acknowledge(&self, queue: u16) -> bool {
        let head = self.pairs.get(&queue).unwrap().head;
        self.tell(u64::from(queue) * 2 + 1, head)
    }

    /// Waits for the next completion and takes it.
    pub fn next(&mut self, queue: u16) -> End {
        let mut end = None;
        self.wait("completion", |guest| {
            end = guest.look(queue);
            end.is_some()
        });
        self.acknowledge(queue);
        end.unwrap()
    }

    /// Has a command carried out.
    pub fn run(&mut self, queue: u16, cmd: Cmd) -> End {
        let id = self.put(queue, cmd);
        self.ring(queue);
        let end = self.next(queue);
        assert_eq!(end.id, id);
        end
    }

    pub fn admin(&mut self, cmd: Cmd) -> End {
        self.run(0, cmd)
    }

    pub fn wait(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            assert!(Instant::now() < deadline, "no {what}, status {:#x}", self.get(CSTS));
            if self.shared {
                std::thread::yield_now();
            } else {
                self.client.serve(Duration::from_millis(1)).unwrap();
            }
        }
    }
}

impl Guest {
    /// Maps the memory again.
    pub fn remap(&self) {
        let file = self.shared.then(|| (self.memory.as_fd(), 0));
        self.client.dma_map(BASE, MEMORY, file).unwrap();
    }
}
