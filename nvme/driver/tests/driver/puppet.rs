//! A controller without a process, every answer of which a test can bend.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use vfio_irq::{Action, Data, Index, Info, SetIrqs, Transport};
use vfio_irq_nvme_driver::{Function, Memory};

/// As the emulated controller's, but half a second to become ready.
pub const CAP: u64 = 63 | 1 << 16 | 1 << 24 | 1 << 37;

/// What becomes of a completion: queue, opcode, words. `false`: it never comes.
pub type Complete = Arc<dyn Fn(u16, u32, &mut [u32; 4]) -> bool + Send + Sync>;

/// How it misbehaves.
#[derive(Clone)]
pub struct Script {
    pub class: u32,
    pub cap: u64,
    /// What CSTS says instead.
    pub status: fn(u32) -> u32,
    /// What Identify (0: namespace, 1: controller) says instead.
    pub identify: fn(u32, &mut [u8]),
    /// What a completion says instead.
    pub complete: Complete,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            class: 0x01_0802,
            cap: CAP,
            status: |status| status,
            identify: |_, _| {},
            complete: Arc::new(|_, _, _| true),
        }
    }
}

#[derive(Default)]
pub struct State {
    /// Memory that is mapped, by its address.
    pub maps: BTreeMap<u64, (File, u64)>,
    /// Vectors that signal.
    pub vectors: BTreeMap<u32, OwnedFd>,
    /// MSI-X is.
    enabled: bool,
    pub master: bool,
    /// What CC was set to, in order.
    pub configured: Vec<u32>,
    /// Admin commands, by opcode.
    pub commands: Vec<u32>,
    registers: BTreeMap<u64, u32>,
    rings: BTreeMap<u16, Ring>,
}

struct Ring {
    commands: u64,
    completions: u64,
    entries: u32,
    head: u32,
    end: u32,
    phase: bool,
}

/// Clones are the same controller.
#[derive(Clone)]
pub struct Puppet {
    pub state: Arc<Mutex<State>>,
    script: Script,
}

impl Puppet {
    pub fn new(script: Script) -> Self {
        Self { state: Arc::default(), script }
    }

    pub fn see<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.lock().unwrap())
    }
}

impl State {
    /// Whether MSI-X is.
    pub fn disabled(&self) -> bool {
        !self.enabled && self.vectors.is_empty()
    }

    fn at(&self, address: u64) -> (&File, u64) {
        let (start, (file, size)) = self.maps.range(..=address).next_back().unwrap();
        assert!(address - start < *size, "{address:#x} is not mapped");
        (file, address - start)
    }

    fn load<const N: usize>(&self, address: u64) -> [u32; N] {
        let (file, at) = self.at(address);
        let mut bytes = vec![0; 4 * N];
        file.read_exact_at(&mut bytes, at).unwrap();
        std::array::from_fn(|i| u32::from_le_bytes(bytes[4 * i..][..4].try_into().unwrap()))
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        let (file, at) = self.at(address);
        file.write_all_at(bytes, at).unwrap();
    }

    fn register(&self, offset: u64) -> u32 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    fn long(&self, offset: u64) -> u64 {
        u64::from(self.register(offset)) | u64::from(self.register(offset + 4)) << 32
    }

    fn enable(&mut self) {
        let entries = self.register(0x24) & 0xfff;
        let ring = Ring::new(self.long(0x28), self.long(0x30), entries + 1);
        self.rings = BTreeMap::from([(0, ring)]);
    }

    /// Carries out an admin command; its status.
    fn admin(&mut self, words: &[u32; 16], script: &Script) -> u32 {
        let address = u64::from(words[6]) | u64::from(words[7]) << 32;
        let (id, entries) = ((words[10] & 0xffff) as u16, (words[10] >> 16) + 1);
        let opcode = words[0] & 0xff;
        self.commands.push(opcode);
        match opcode {
            0x05 => drop(self.rings.insert(id, Ring::new(0, address, entries))),
            0x01 => self.rings.get_mut(&id).unwrap().commands = address,
            0x04 => drop(self.rings.remove(&id).unwrap()),
            0x06 => {
                let mut page = identify(words[10] & 0xff);
                (script.identify)(words[10] & 0xff, &mut page);
                self.store(address, &page);
            }
            _ => {}
        }
        0
    }

    fn work(&mut self, queue: u16, tail: u32, script: &Script) {
        loop {
            let Some(ring) = self.rings.get_mut(&queue).filter(|ring| ring.head != tail) else {
                return;
            };
            let at = ring.commands + u64::from(ring.head) * 64;
            ring.head = (ring.head + 1) % ring.entries;
            let head = ring.head;
            let words = self.load::<16>(at);
            let status = if queue == 0 { self.admin(&words, script) } else { 0 };
            let Some(ring) = self.rings.get_mut(&queue) else { return };
            let mut end = [0; 4];
            // As many queues as the driver asks for.
            end[0] = if queue == 0 && words[0] & 0xff == 9 { words[11] } else { 0 };
            end[2] = head | u32::from(queue) << 16;
            end[3] = words[0] >> 16 | u32::from(ring.phase) << 16 | status << 17;
            if !(script.complete)(queue, words[0] & 0xff, &mut end) {
                continue;
            }
            let place = ring.completions + u64::from(ring.end) * 16;
            ring.end = (ring.end + 1) % ring.entries;
            ring.phase ^= ring.end == 0;
            let bytes: Vec<u8> = end.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.store(place, &bytes);
            if let Some(event) = self.vectors.get(&queue.into()) {
                rustix::io::write(event, &1_u64.to_ne_bytes()).unwrap();
            }
        }
    }
}

impl Ring {
    fn new(commands: u64, completions: u64, entries: u32) -> Self {
        Self { commands, completions, entries, head: 0, end: 0, phase: true }
    }
}

fn identify(what: u32) -> Vec<u8> {
    let mut page = vec![0; 4096];
    if what == 1 {
        page[4..10].copy_from_slice(b"puppet");
        page[77] = 5;
        page[516] = 1;
    } else {
        page[..8].copy_from_slice(&1000_u64.to_le_bytes());
        page[130] = 9;
    }
    page
}

impl Transport for Puppet {
    fn irq_info(&self, _: Index) -> io::Result<Info> {
        Ok(Info { flags: 1 | 2, count: 9 })
    }

    fn set_irqs(&self, request: &SetIrqs<'_>) -> io::Result<u32> {
        assert_eq!((request.index, request.action), (Index::Msix, Action::Trigger));
        let State { vectors, enabled, .. } = &mut *self.state.lock().unwrap();
        match request.data {
            Data::None { count: 0 } => {
                vectors.clear();
                *enabled = false;
            }
            Data::Eventfd(fds) => {
                *enabled = true;
                for (number, fd) in (request.start..).zip(fds) {
                    assert!(number < 9);
                    match fd {
                        Some(fd) => drop(vectors.insert(number, fd.try_clone_to_owned()?)),
                        None => drop(vectors.remove(&number)),
                    }
                }
            }
            _ => unreachable!("the driver neither masks nor loops back"),
        }
        Ok(0)
    }
}

impl Function for Puppet {
    fn class(&self) -> io::Result<u32> {
        Ok(self.script.class)
    }

    fn size(&self) -> u64 {
        0x2000
    }

    fn read32(&self, offset: u64) -> io::Result<u32> {
        let state = self.state.lock().unwrap();
        Ok(match offset {
            0 => (self.script.cap & 0xffff_ffff) as u32,
            4 => (self.script.cap >> 32) as u32,
            0x1c => {
                let configured = state.register(0x14);
                let shut = configured >> 14 & 3 != 0;
                (self.script.status)(configured & 1 | u32::from(shut) << 3)
            }
            _ => state.register(offset),
        })
    }

    fn write32(&self, offset: u64, value: u32) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let before = state.registers.insert(offset, value).unwrap_or(0);
        if offset == 0x14 {
            state.configured.push(value);
            if value & !before & 1 != 0 {
                state.enable();
            }
        } else if let Some(place) = offset.checked_sub(0x1000).map(|at| at / 4)
            && place % 2 == 0
            && state.register(0x14) & 1 != 0
        {
            state.work(u16::try_from(place / 2).unwrap(), value, &self.script);
        }
        Ok(())
    }

    fn set_bus_master(&self, on: bool) -> io::Result<()> {
        self.state.lock().unwrap().master = on;
        Ok(())
    }

    fn map(&self, memory: &Memory, address: u64) -> io::Result<()> {
        let file = File::from(memory.as_fd().try_clone_to_owned()?);
        self.state.lock().unwrap().maps.insert(address, (file, memory.size()));
        Ok(())
    }

    fn unmap(&self, address: u64, size: u64) -> io::Result<()> {
        let (_, mapped) = self.state.lock().unwrap().maps.remove(&address).unwrap();
        assert_eq!(mapped, size);
        Ok(())
    }
}
