//! Drives the queues of an NVMe controller. Each I/O queue has an interrupt vector. A command
//! without data comes back as a completion and an interrupt.

use super::{Registers, Stimulus};
use crate::vfio::Dma;
use crate::{Error, Index};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CAP_HIGH: usize = 0x04;
const CC: usize = 0x14;
const CSTS: usize = 0x1c;
const AQA: usize = 0x24;
const ASQ: usize = 0x28;
const ACQ: usize = 0x30;
const DOORBELLS: usize = 0x1000;

const CC_ENABLE: u32 = 1;
/// Entries of 64 and of 16 bytes, as powers of two.
const CC_ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;
const CSTS_READY: u32 = 1;

const ADMIN_CREATE_SUBMISSION: u32 = 0x01;
const ADMIN_CREATE_COMPLETION: u32 = 0x05;
const ADMIN_SET_FEATURES: u32 = 0x09;
const ADMIN_GET_FEATURES: u32 = 0x0a;
const FEATURE_QUEUES: u32 = 7;
const FLUSH: u32 = 0x00;

const DEPTH: u16 = 64;
const PAGE: usize = 4096;
/// The number of vectors for which the memory of [`Dma`] has queues.
pub const MOST_VECTORS: u32 = 65;
/// The longest wait for the controller. Exceeding it is a failure of the controller, not of an
/// interrupt.
const PATIENCE: Duration = Duration::from_secs(20);

fn silent(why: impl Into<String>) -> Error {
    Error::Silent { device: "NVMe controller", why: why.into() }
}

/// A submission queue and its completion queue, with the same number.
#[derive(Debug)]
struct Queue {
    number: u16,
    tail: u16,
    head: u16,
    phase: bool,
    /// Commands that were sent and have not completed.
    open: u16,
}

impl Queue {
    fn new(number: u16) -> Self {
        Self { number, tail: 0, head: 0, phase: true, open: 0 }
    }

    fn submissions(&self) -> usize {
        usize::from(self.number) * 2 * PAGE
    }

    fn completions(&self) -> usize {
        self.submissions() + PAGE
    }
}

/// A controller and the queues created so far.
pub struct Controller {
    bar: Arc<dyn Registers>,
    dma: Arc<Dma>,
    stride: usize,
    started_for: Option<Index>,
    /// The number of I/O queues that the controller granted.
    granted: u32,
    queues: BTreeMap<u16, Queue>,
}

impl Controller {
    /// Creates a controller in an unknown state; the first use resets it.
    pub fn new(bar: Arc<dyn Registers>, dma: Arc<Dma>) -> Self {
        Self { bar, dma, stride: 4, started_for: None, granted: 0, queues: BTreeMap::new() }
    }

    fn is_ready(&self) -> Result<bool, Error> {
        Ok(self.bar.read32(CSTS)? & CSTS_READY != 0)
    }

    fn wait_ready(&self, ready: bool) -> Result<(), Error> {
        let since = Instant::now();
        while self.is_ready()? != ready {
            if since.elapsed() > PATIENCE {
                return Err(silent(format!("its ready bit does not become {ready}")));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Resets the controller and enables it with its admin queue, with interrupts of the index.
    fn start(&mut self, index: Index) -> Result<(), Error> {
        self.started_for = None;
        self.queues.clear();
        self.bar.write32(CC, 0)?;
        self.wait_ready(false)?;
        self.stride = 4 << (self.bar.read32(CAP_HIGH)? & 0xf);
        let admin = Queue::new(0);
        self.dma.memory.clear(0, 2 * PAGE)?;
        let depth = u32::from(DEPTH - 1);
        self.bar.write32(AQA, depth << 16 | depth)?;
        self.write_address(ASQ, admin.submissions())?;
        self.write_address(ACQ, admin.completions())?;
        self.bar.write32(CC, CC_ENABLE | CC_ENTRY_SIZES)?;
        self.wait_ready(true)?;
        self.queues.insert(0, admin);
        let most = MOST_VECTORS - 2;
        let granted = self.admin(ADMIN_SET_FEATURES, 0, [FEATURE_QUEUES, most << 16 | most])?;
        self.granted = (granted & 0xffff).min(granted >> 16) + 1;
        self.started_for = Some(index);
        Ok(())
    }

    fn write_address(&self, register: usize, offset: usize) -> Result<(), Error> {
        let (low, high) = self.address(offset);
        self.bar.write32(register, low)?;
        self.bar.write32(register + 4, high)
    }

    fn address(&self, offset: usize) -> (u32, u32) {
        let iova = self.dma.iova + offset as u64;
        let low = u32::try_from(iova & u64::from(u32::MAX)).unwrap_or_default();
        (low, u32::try_from(iova >> 32).unwrap_or_default())
    }

    /// Creates the queue pair whose completions interrupt with this vector.
    fn create(&mut self, number: u16) -> Result<(), Error> {
        let queue = Queue::new(number);
        self.dma.memory.clear(queue.submissions(), 2 * PAGE)?;
        let (id, vector) = (u32::from(number), u32::from(number));
        let size = u32::from(DEPTH - 1) << 16;
        let (contiguous, interrupts) = (1, 2);
        let completion = [size | id, vector << 16 | interrupts | contiguous];
        self.admin(ADMIN_CREATE_COMPLETION, queue.completions(), completion)?;
        let submission = [size | id, id << 16 | contiguous];
        self.admin(ADMIN_CREATE_SUBMISSION, queue.submissions(), submission)?;
        self.queues.insert(number, queue);
        Ok(())
    }

    /// Sends one admin command and waits for it. Returns the first word of its completion.
    fn admin(&mut self, opcode: u32, offset: usize, words: [u32; 2]) -> Result<u32, Error> {
        self.send(0, opcode, offset, words)?;
        self.wait_completion(0)?;
        let queue = self.queue(0)?;
        let value = self.dma.memory.read32(queue.completions() + usize::from(queue.head) * 16)?;
        let status = self.consume(0)?;
        if status != 0 {
            return Err(silent(format!("admin command {opcode:#x} ended with status {status:#x}")));
        }
        Ok(value)
    }

    fn queue(&self, number: u16) -> Result<&Queue, Error> {
        self.queues.get(&number).ok_or_else(|| silent(format!("there is no queue {number}")))
    }

    fn queue_mut(&mut self, number: u16) -> Result<&mut Queue, Error> {
        let missing = || silent(format!("there is no queue {number}"));
        self.queues.get_mut(&number).ok_or_else(missing)
    }

    fn ring(&self, number: u16, completion: bool, value: u16) -> Result<(), Error> {
        let slot = 2 * usize::from(number) + usize::from(completion);
        self.bar.write32(DOORBELLS + slot * self.stride, u32::from(value))
    }

    fn send(
        &mut self,
        number: u16,
        opcode: u32,
        offset: usize,
        words: [u32; 2],
    ) -> Result<(), Error> {
        let queue = self.queue(number)?;
        let tail = queue.tail;
        let at = queue.submissions() + usize::from(tail) * 64;
        let memory = &self.dma.memory;
        memory.clear(at, 64)?;
        memory.write32(at, opcode | u32::from(tail) << 16)?;
        memory.write32(at + 4, u32::from(number != 0))?;
        if offset != 0 {
            let (low, high) = self.address(offset);
            memory.write32(at + 24, low)?;
            memory.write32(at + 28, high)?;
        }
        memory.write32(at + 40, words[0])?;
        memory.write32(at + 44, words[1])?;
        let queue = self.queue_mut(number)?;
        queue.tail = (tail + 1) % DEPTH;
        queue.open += 1;
        let tail = queue.tail;
        self.ring(number, false, tail)
    }

    fn completed(&self, queue: &Queue) -> Result<Option<u32>, Error> {
        let word =
            self.dma.memory.read32(queue.completions() + usize::from(queue.head) * 16 + 12)?;
        let fresh = (word >> 16 & 1 == 1) == queue.phase;
        Ok(fresh.then_some(word >> 17))
    }

    fn wait_completion(&self, number: u16) -> Result<(), Error> {
        let queue = self.queue(number)?;
        let since = Instant::now();
        while self.completed(queue)?.is_none() {
            if since.elapsed() > PATIENCE {
                return Err(silent(format!("a command on queue {number} does not complete")));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Takes the pending completion. Returns its status.
    fn consume(&mut self, number: u16) -> Result<u32, Error> {
        let status = self.completed(self.queue(number)?)?;
        let status = status.ok_or_else(|| silent("a completion vanished"))?;
        let queue = self.queue_mut(number)?;
        queue.head = (queue.head + 1) % DEPTH;
        if queue.head == 0 {
            queue.phase = !queue.phase;
        }
        queue.open = queue.open.saturating_sub(1);
        let head = queue.head;
        self.ring(number, true, head)?;
        Ok(status)
    }

    /// Sends a command whose completion interrupts with this vector, without waiting. Returns false
    /// if the queue is full.
    pub fn submit(&mut self, vector: u32) -> Result<bool, Error> {
        let number = u16::try_from(vector).unwrap_or(u16::MAX);
        if self.queue(number)?.open >= DEPTH - 1 {
            return Ok(false);
        }
        if number == 0 {
            self.send(0, ADMIN_GET_FEATURES, 0, [FEATURE_QUEUES, 0])?;
        } else {
            self.send(number, FLUSH, 0, [0, 0])?;
        }
        Ok(true)
    }

    /// Takes one completion of a vector's queue. Returns true if there was one.
    pub fn reap(&mut self, vector: u32) -> Result<bool, Error> {
        let number = u16::try_from(vector).unwrap_or(u16::MAX);
        if self.completed(self.queue(number)?)?.is_none() {
            return Ok(false);
        }
        self.consume(number)?;
        Ok(true)
    }

    /// Returns the number of commands of a vector's queue that have not been reaped.
    pub fn open(&self, vector: u32) -> u16 {
        let number = u16::try_from(vector).unwrap_or(u16::MAX);
        self.queues.get(&number).map_or(0, |queue| queue.open)
    }
}

impl Stimulus for Controller {
    fn reach(&self, index: Index) -> u32 {
        match index {
            Index::Msix => MOST_VECTORS,
            // On a busy machine QEMU's controller sometimes asserts INTx forever or never, also
            // across resets, with both cores. The cases for INTx need a device without this defect:
            // edu, igb.
            Index::Intx | Index::Msi | Index::Err | Index::Req => 0,
        }
    }

    fn ready(&mut self, index: Index, vectors: u32) -> Result<(), Error> {
        if self.started_for != Some(index) || !self.is_ready()? {
            self.start(index)?;
        }
        if vectors > self.granted + 1 {
            return Err(Error::Unraisable { index, vector: vectors - 1 });
        }
        for number in 1..u16::try_from(vectors.min(MOST_VECTORS)).unwrap_or(0) {
            if !self.queues.contains_key(&number) {
                self.create(number)?;
            }
        }
        Ok(())
    }

    fn raise(&mut self, index: Index, vector: u32) -> Result<(), Error> {
        self.ready(index, vector + 1)?;
        self.submit(vector)?;
        let number = u16::try_from(vector).unwrap_or(u16::MAX);
        self.wait_completion(number)?;
        // INTx stays asserted until the completion is taken.
        if index == Index::Intx { Ok(()) } else { self.consume(number).map(|_| ()) }
    }

    fn acknowledge(&mut self) -> Result<(), Error> {
        while self.reap(0)? {}
        Ok(())
    }
}
