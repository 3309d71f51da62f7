//! The contract as a model: what a device answers to a sequence of requests, which vectors have an
//! eventfd then, and which eventfds are signalled.
//!
//! The model is written for a reader of `CONTRACT.md`, a rule after the other, and shares no code
//! with the engine. It knows both sides of part B: with [`Core::C`] it does what Linux's core does.
//! It is compared with devices by [`crate::differential`].

mod intx;
mod vectors;

use crate::target::Core;
use crate::vfio::Facts;
use crate::{Answer, Index, Request, flags};
pub use intx::Intx;
use std::collections::{BTreeMap, BTreeSet};
pub use vectors::Vectors;

/// What decides the answers besides the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Whose answers.
    pub core: Core,
    /// The device's interrupt capabilities.
    pub facts: Facts,
    /// Vectors of MSI-X can be added while others are in use (I-05).
    pub dynamic: bool,
}

/// A file that a descriptor refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    /// An eventfd.
    Eventfd,
    /// A file that is no eventfd.
    Other,
}

/// The one of INTx, MSI and MSI-X that is active.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// None is.
    #[default]
    Idle,
    /// INTx.
    Intx(Intx),
    /// MSI or MSI-X.
    Vectors(Vectors),
}

/// How often an eventfd is signalled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Signals {
    /// At least.
    pub least: u64,
    /// At most. This is more than `least` where the contract leaves it open.
    pub most: u64,
}

/// The data of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Data {
    None,
    Bool(Vec<bool>),
    Eventfd(Vec<i32>),
}

/// A request that the checks of part C have accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Checked {
    index: Index,
    action: u32,
    start: u32,
    count: u32,
    data: Data,
}

/// A device's interrupts by the contract.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Model {
    rules: Rules,
    files: BTreeMap<i32, File>,
    mode: Mode,
    err: Option<i32>,
    req: Option<i32>,
    /// The device asserts INTx.
    asserted: bool,
    /// DisINTx: the mask of INTx, which stays when INTx is disabled. MSI leaves it as it is.
    disintx: bool,
    /// Vectors that were raised while they were masked, and then detached, disabled or reset: the
    /// device may have kept the interrupt.
    uncertain: BTreeSet<(Index, u32)>,
    expected: BTreeMap<i32, Signals>,
}

/// Returns the error unless the condition holds.
fn ensure(holds: bool, otherwise: Answer) -> Result<(), Answer> {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl Model {
    /// Returns a device that was just opened, and the files that its user has.
    pub fn new(rules: Rules, files: BTreeMap<i32, File>) -> Self {
        Self {
            rules,
            files,
            mode: Mode::Idle,
            err: None,
            req: None,
            asserted: false,
            disintx: false,
            uncertain: BTreeSet::new(),
            expected: BTreeMap::new(),
        }
    }

    /// Returns the same device with the other core.
    #[must_use]
    pub fn with_core(&self, core: Core) -> Self {
        Self { rules: Rules { core, ..self.rules }, ..self.clone() }
    }

    /// Returns the device after it was closed and opened again, with other files.
    #[must_use]
    pub fn reopened(mut self, files: BTreeMap<i32, File>) -> Self {
        self.make_pending_uncertain();
        Self { uncertain: self.uncertain, ..Self::new(self.rules, files) }
    }

    /// Returns whose answers these are.
    pub fn core(&self) -> Core {
        self.rules.core
    }

    /// Returns what is active.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Returns the active index of INTx, MSI and MSI-X.
    pub fn active(&self) -> Option<Index> {
        match &self.mode {
            Mode::Idle => None,
            Mode::Intx(_) => Some(Index::Intx),
            Mode::Vectors(vectors) => Some(vectors.index),
        }
    }

    /// Returns true if the device asserts INTx.
    pub fn asserted(&self) -> bool {
        self.asserted
    }

    /// Returns true if DisINTx is set in the device's command register.
    pub fn disintx(&self) -> bool {
        self.disintx
    }

    fn note_disintx(&mut self) {
        if let Mode::Intx(intx) = &self.mode {
            self.disintx = intx.masked;
        }
    }

    /// Returns true if nothing but the signals and whose answers they are differs.
    pub fn same_state(&self, other: &Self) -> bool {
        let with_core = other.with_core(self.rules.core);
        Self { expected: BTreeMap::new(), ..self.clone() }
            == Self { expected: BTreeMap::new(), ..with_core }
    }

    /// Returns the signals that the steps since the last call cause.
    pub fn take_signals(&mut self) -> BTreeMap<i32, Signals> {
        std::mem::take(&mut self.expected)
    }

    /// Returns flags and count of GET_IRQ_INFO (I-02 to I-07).
    pub fn info(&self, index: u32) -> Result<(u32, u32), Answer> {
        let index = Index::from_raw(index).ok_or(Answer::EINVAL)?;
        let mut answer = flags::EVENTFD;
        match index {
            Index::Intx => answer |= flags::MASKABLE | flags::AUTOMASKED,
            Index::Msix if self.rules.dynamic => {}
            Index::Msi | Index::Msix | Index::Err | Index::Req => answer |= flags::NORESIZE,
        }
        if self.maskable(index) {
            answer |= flags::MASKABLE;
        }
        Ok((answer, self.count(index)))
    }

    /// Makes SET_IRQS. Returns the answer.
    pub fn set_irqs(&mut self, request: &Request) -> Answer {
        let done = self.check(request).and_then(|checked| match checked.index {
            Index::Intx => self.set_intx(&checked),
            Index::Msi | Index::Msix => self.set_vectors(&checked),
            Index::Err | Index::Req => self.set_event(&checked),
        });
        self.note_disintx();
        done.err().unwrap_or(Answer::OK)
    }

    /// The device raises a vector of MSI or MSI-X that has an eventfd.
    pub fn raise(&mut self, number: u32) {
        if let Mode::Vectors(vectors) = &mut self.mode {
            vectors.pending.insert(number);
        }
        self.deliver(number);
    }

    /// The device asserts or deasserts INTx.
    pub fn set_asserted(&mut self, asserted: bool) {
        self.asserted = asserted;
        self.signal_intx_if_asserted();
        self.note_disintx();
    }

    /// User space signals the armed eventfd, which unmasks INTx.
    pub fn resample(&mut self) {
        if let Mode::Intx(intx) = &mut self.mode {
            intx.masked = false;
        }
        self.signal_intx_if_asserted();
        self.note_disintx();
    }

    /// The device is reset, and no longer asserts INTx. Attached vectors go on working (V-12). To
    /// restore them, the kernel sets DisINTx.
    pub fn reset(&mut self) {
        self.asserted = false;
        self.disintx |= matches!(self.mode, Mode::Vectors(_));
        self.make_pending_uncertain();
    }

    /// The device may have raised a vector.
    pub fn may_have_raised(&mut self, index: Index, number: u32) {
        self.uncertain.insert((index, number));
        self.deliver(number);
    }

    /// Returns the number of vectors of an index.
    pub fn count(&self, index: Index) -> u32 {
        let Facts { pin, msi, msix, .. } = self.rules.facts;
        match index {
            Index::Intx => u32::from(pin),
            Index::Msi => msi,
            Index::Msix => msix,
            Index::Err | Index::Req => 1,
        }
    }

    fn maskable(&self, index: Index) -> bool {
        let can = match index {
            Index::Msi => self.rules.facts.msi_mask_bits,
            Index::Msix => self.rules.facts.msix > 0,
            Index::Intx | Index::Err | Index::Req => false,
        };
        can && self.rules.core == Core::Rust
    }

    /// The checks of part C.
    fn check(&self, request: &Request) -> Result<Checked, Answer> {
        let Request { argsz, flags, index, start, count, .. } = *request;
        let index = Index::from_raw(index).ok_or(Answer::EINVAL)?;
        let kind = flags & (flags::NONE | flags::BOOL | flags::FDS);
        let action = flags & (flags::TRIGGER | flags::MASK | flags::UNMASK);
        let size: u64 = match kind {
            flags::NONE => 0,
            flags::BOOL => 1,
            flags::FDS => 4,
            _ => return Err(Answer::EINVAL),
        };
        let vectors = self.count(index);
        let end = u64::from(start) + u64::from(count);
        let len = u64::from(count) * size;
        ensure(flags == kind | action, Answer::EINVAL)?;
        ensure(start < vectors && end <= u64::from(vectors), Answer::EINVAL)?;
        ensure(u64::from(argsz) >= u64::from(Request::HEADER) + len, Answer::EINVAL)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let data = request.data.get(..len).ok_or(Answer::EFAULT)?;
        ensure(matches!(action, flags::TRIGGER | flags::MASK | flags::UNMASK), Answer::ENOTTY)?;
        let data = match kind {
            flags::NONE => Data::None,
            flags::BOOL => Data::Bool(data.iter().map(|byte| *byte != 0).collect()),
            _ => {
                let (words, _) = data.as_chunks::<4>();
                Data::Eventfd(words.iter().map(|word| i32::from_ne_bytes(*word)).collect())
            }
        };
        Ok(Checked { index, action, start, count, data })
    }

    /// Resolves a descriptor (V-10).
    fn eventfd(&self, fd: i32) -> Result<i32, Answer> {
        match self.files.get(&fd) {
            Some(File::Eventfd) => Ok(fd),
            Some(File::Other) => Err(Answer::EINVAL),
            None => Err(Answer::EBADF),
        }
    }

    fn signal(&mut self, fd: i32, surely: bool) {
        let signals = self.expected.entry(fd).or_default();
        signals.least += u64::from(surely);
        signals.most += 1;
    }

    /// ERR and REQ (E-01 to E-05).
    fn set_event(&mut self, checked: &Checked) -> Result<(), Answer> {
        ensure(checked.action == flags::TRIGGER, Answer::ENOTTY)?;
        let trigger = if checked.index == Index::Err { self.err } else { self.req };
        let trigger = match (&checked.data, checked.count, trigger) {
            (Data::None, 0, Some(_)) => None,
            (Data::None, 1, Some(fd)) => {
                self.signal(fd, true);
                trigger
            }
            (Data::Bool(bools), 1, _) => {
                if let (Some(fd), Some(true)) = (trigger, bools.first()) {
                    self.signal(fd, true);
                }
                trigger
            }
            (Data::Eventfd(fds), 1, _) => match fds.first() {
                Some(-1) => None,
                Some(fd @ 0..) => Some(self.eventfd(*fd)?),
                _ => return Err(Answer::EINVAL),
            },
            _ => return Err(Answer::EINVAL),
        };
        if checked.index == Index::Err {
            self.err = trigger;
        } else {
            self.req = trigger;
        }
        Ok(())
    }
}
