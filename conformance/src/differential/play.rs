//! Plays a sequence on a target and on the model, and compares them after each step.

use super::Tally;
use super::step::{EVENTFDS, Fd, RESAMPLERS, Step};
use crate::model::{File, Mode, Model, Rules, Vectors};
use crate::target::{Core, Target};
use crate::vfio::{COMMAND_INTX_DISABLE, COMMAND_MASTER, COMMAND_MEMORY};
use crate::{Answer, Error, Index, Info, Request, flags, requests};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// A descriptor that is not open: no process has so many.
const CLOSED: i32 = i32::MAX;

/// What a target did and the model did not.
#[derive(Debug)]
pub struct Difference {
    /// The step after which it showed, counted from 0.
    pub step: usize,
    /// The difference.
    pub why: String,
}

/// Plays a sequence on a target that is opened for it. Returns the first difference from the model.
/// A step that does not apply to the target is left out.
pub fn play(
    target: &mut dyn Target,
    steps: &[Step],
    tally: &mut Tally,
) -> Result<Option<Difference>, Error> {
    let mut play = Play::new(target, tally)?;
    let differs = steps.iter().enumerate().find_map(|(step, what)| {
        let stop = play.step_and_compare(what).err()?;
        Some((step, stop))
    });
    play.acknowledge()?;
    target.close()?;
    match differs {
        None => {}
        Some((step, Stop::Differs(why))) => return Ok(Some(Difference { step, why })),
        Some((_, Stop::Failed(error))) => return Err(error),
    }
    let why = target.leaks().map(|leaks| format!("the device is closed, and {leaks}"));
    Ok(why.map(|why| Difference { step: steps.len().saturating_sub(1), why }))
}

/// Why a sequence ends early.
enum Stop {
    /// The target did what the model did not.
    Differs(String),
    /// The step could not be tried.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Returns an error unless both are the same.
fn same<T: PartialEq + Debug>(what: &str, model: &T, target: &T) -> Result<(), Stop> {
    if model == target {
        return Ok(());
    }
    Err(Stop::Differs(format!("{what}: the model says {model:?}, the target {target:?}")))
}

/// The files of the target's user.
struct Files {
    eventfds: Vec<i32>,
    resamplers: Vec<i32>,
    other: i32,
}

impl Files {
    fn open(target: &mut dyn Target) -> Result<Self, Error> {
        Ok(Self {
            eventfds: (0..EVENTFDS).map(|_| target.eventfd()).collect::<Result<_, _>>()?,
            resamplers: (0..RESAMPLERS).map(|_| target.eventfd()).collect::<Result<_, _>>()?,
            other: target.other_file()?,
        })
    }

    fn number(&self, fd: Fd) -> i32 {
        match fd {
            Fd::Eventfd(n) => self.eventfds.get(n).copied().unwrap_or(CLOSED),
            Fd::Resampler(n) => self.resamplers.get(n).copied().unwrap_or(CLOSED),
            Fd::Other => self.other,
            Fd::Closed => CLOSED,
            Fd::Negative(number) => number,
        }
    }

    fn kinds(&self) -> BTreeMap<i32, File> {
        let eventfds = self.eventfds.iter().chain(&self.resamplers).map(|fd| (*fd, File::Eventfd));
        eventfds.chain([(self.other, File::Other)]).collect()
    }
}

/// A sequence while it is played.
struct Play<'t> {
    target: &'t mut dyn Target,
    files: Files,
    model: Model,
    /// The index for whose interrupts the device is prepared, and the vectors that it raises.
    prepared: Option<(Index, u32)>,
    tally: &'t mut Tally,
}

impl<'t> Play<'t> {
    /// Opens the target again.
    fn new(target: &'t mut dyn Target, tally: &'t mut Tally) -> Result<Self, Error> {
        target.open()?;
        let files = Files::open(target)?;
        let dynamic =
            info(target, Index::Msix.raw())?.is_ok_and(|(answer, _)| answer & flags::NORESIZE == 0);
        let rules = Rules { core: target.core(), facts: target.facts(), dynamic };
        let model = Model::new(rules, files.kinds());
        Ok(Self { target, files, model, prepared: None, tally })
    }

    fn step_and_compare(&mut self, step: &Step) -> Result<(), Stop> {
        self.step(step)?;
        self.prepare()?;
        self.compare()
    }

    fn step(&mut self, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Set(template) => {
                let request = template.request(|fd| self.files.number(fd));
                self.set_irqs(&request)
            }
            Step::Info(index) => {
                let target = info(self.target, *index)?;
                same("GET_IRQ_INFO", &self.model.info(*index), &target)
            }
            Step::Raise(number) => self.raise(*number),
            Step::Acknowledge => Ok(self.acknowledge()?),
            Step::Resample => self.resample(),
            Step::Reset => {
                self.acknowledge()?;
                if self.target.reset()? {
                    self.model.reset();
                    self.prepared = None;
                    self.tally.resets += 1;
                }
                Ok(())
            }
            Step::Reopen => {
                self.acknowledge()?;
                self.target.open()?;
                self.files = Files::open(self.target)?;
                self.model = self.model.clone().reopened(self.files.kinds());
                self.prepared = None;
                self.tally.opened += 1;
                Ok(())
            }
        }
    }

    fn set_irqs(&mut self, request: &Request) -> Result<(), Stop> {
        // QEMU's IO-APIC forgets a level that rises while no handler is there, so INTx must not be
        // asserted when it is enabled.
        if *self.model.mode() == Mode::Idle {
            self.acknowledge()?;
        }
        let answer = match self.target.set_irqs(&request.bytes()) {
            Err(Error::Uncarried) => return Ok(()),
            answer => answer?,
        };
        let other = match self.model.core() {
            Core::C => Core::Rust,
            Core::Rust => Core::C,
        };
        let mut other = self.model.with_core(other);
        let theirs = other.set_irqs(request);
        let ours = self.model.set_irqs(request);
        self.tally.requests += 1;
        *self.tally.answers.entry(answer.to_string()).or_default() += 1;
        if theirs != ours || !other.same_state(&self.model) {
            let rule = rule_of_part_b(request, ours, theirs).ok_or_else(|| {
                let why = format!("{request} answered {ours}, with the other core {theirs}");
                Stop::Differs(format!("the cores differ by no rule of part B: {why}"))
            })?;
            *self.tally.cores_differ.entry(rule).or_default() += 1;
        }
        same("the answer", &ours, &answer)
    }

    fn raise(&mut self, number: u32) -> Result<(), Stop> {
        let Some((index, reach)) = self.prepared else { return Ok(()) };
        let number = match self.model.mode() {
            // Linux clears the message of MSI when the first vector loses its eventfd, so that the
            // others write to address 0. The Rust core writes it back.
            Mode::Vectors(Vectors { index: Index::Msi, attached, .. })
                if self.model.core() == Core::C && !attached.contains_key(&0) =>
            {
                return Ok(());
            }
            Mode::Intx(_) if reach > 0 && !self.model.asserted() => 0,
            Mode::Vectors(vectors) => {
                let able: Vec<u32> = vectors.attached.range(..reach).map(|(n, _)| *n).collect();
                let chosen = usize::try_from(number).unwrap_or(0) % able.len().max(1);
                let Some(number) = able.get(chosen) else { return Ok(()) };
                *number
            }
            Mode::Intx(_) | Mode::Idle => return Ok(()),
        };
        self.target.raise(index, number)?;
        self.tally.raised += 1;
        if index == Index::Intx {
            self.model.set_asserted(true);
        } else {
            self.model.raise(number);
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<(), Error> {
        if self.model.asserted() {
            self.target.acknowledge()?;
            self.model.set_asserted(false);
        }
        Ok(())
    }

    fn resample(&mut self) -> Result<(), Stop> {
        if let Mode::Intx(intx) = self.model.mode()
            && let Some(armed) = intx.armed
        {
            self.target.signal(armed)?;
            self.model.resample();
        }
        Ok(())
    }

    /// Prepares the device to raise interrupts of an index that has become active.
    fn prepare(&mut self) -> Result<(), Stop> {
        let Some(index) = self.model.active() else { return Ok(()) };
        if self.prepared.is_some_and(|(prepared, _)| prepared == index) {
            return Ok(());
        }
        let reach = self.target.reach(index);
        self.prepared = Some((index, reach));
        if reach == 0 {
            return Ok(());
        }
        // The device asserts INTx no more while messages are enabled.
        self.acknowledge()?;
        self.target.ready(index, reach)?;
        // The device may have raised its first vector meanwhile. A signal has masked INTx.
        if index == Index::Intx {
            self.set_irqs(&Request::unmask(Index::Intx, 0, 1))?;
        } else {
            self.model.may_have_raised(index, 0);
        }
        // What it has raised arrives before its registers are read.
        self.target.registers()?;
        for fd in &self.files.eventfds {
            self.target.signals(*fd)?;
        }
        self.model.take_signals();
        Ok(())
    }

    fn compare(&mut self) -> Result<(), Stop> {
        self.compare_registers()?;
        self.compare_signals()?;
        let idle = BTreeMap::new();
        let (attached, masked, allocated) = match self.model.mode() {
            Mode::Vectors(vectors) => {
                (&vectors.attached, vectors.masked.clone(), vectors.allocated.len())
            }
            Mode::Idle | Mode::Intx(_) => (&idle, Default::default(), 0),
        };
        let numbers: Vec<u32> = attached.keys().copied().collect();
        if let Some(target) = self.target.attached() {
            same("vectors with an eventfd", &numbers, &target)?;
        }
        if let Some(target) = self.target.allocated() {
            same("allocated interrupts", &allocated, &target)?;
        }
        if let Some(target) = self.target.known().filter(|_| self.model.core() == Core::Rust) {
            let mut known = masked.clone();
            known.extend(&numbers);
            if !matches!(self.model.mode(), Mode::Intx(_)) {
                same("vectors that the host knows", &known.into_iter().collect(), &target)?;
            }
        }
        if self.model.active() == Some(Index::Msix)
            && let Some(target) = self.target.unmasked()?
        {
            let unmasked: Vec<u32> =
                numbers.iter().filter(|number| !masked.contains(number)).copied().collect();
            same("vectors that are not masked in the device", &unmasked, &target)?;
        }
        Ok(())
    }

    fn compare_signals(&mut self) -> Result<(), Stop> {
        let signals = self.model.take_signals();
        for (n, fd) in self.files.eventfds.iter().chain(&self.files.resamplers).enumerate() {
            let expected = signals.get(fd).copied().unwrap_or_default();
            let mut seen = self.target.signals(*fd)?;
            while seen < expected.least && self.target.wait(*fd)? {
                seen += self.target.signals(*fd)?;
            }
            self.tally.signals += seen;
            if seen < expected.least || seen > expected.most {
                let why = format!("eventfd {n} was signalled {seen} times, not {expected:?}");
                return Err(Stop::Differs(why));
            }
        }
        Ok(())
    }

    fn compare_registers(&self) -> Result<(), Stop> {
        let Some(registers) = self.target.registers()? else { return Ok(()) };
        let on = |index| self.model.active() == Some(index);
        same("MSI is enabled in the device", &on(Index::Msi), &registers.msi_enabled)?;
        same("MSI-X is enabled in the device", &on(Index::Msix), &registers.msix_enabled)?;
        let decodes = COMMAND_MEMORY | COMMAND_MASTER;
        same("memory and bus mastering", &decodes, &(registers.command & decodes))?;
        let disabled = registers.command & COMMAND_INTX_DISABLE != 0;
        if matches!(self.prepared, Some((Index::Intx, 1..))) {
            same("the device asserts INTx", &self.model.asserted(), &registers.asserts_intx)?;
        }
        same("DisINTx", &self.model.disintx(), &disabled)
    }
}

/// Returns the rule by which the two cores differ after a request, or `None` if no rule says so.
fn rule_of_part_b(request: &Request, ours: Answer, theirs: Answer) -> Option<&'static str> {
    let vectors = [Index::Msi.raw(), Index::Msix.raw()].contains(&request.index);
    let has = |flag| request.flags & flag != 0;
    if vectors && has(flags::MASK | flags::UNMASK) {
        return Some("B-03");
    }
    // A request that both cores refuse with the same error leaves Linux in another state.
    let refused = ours == theirs && ours.0 < 0;
    (vectors && refused && has(flags::TRIGGER) && has(flags::FDS)).then_some("B-01")
}

/// Makes GET_IRQ_INFO. Returns flags and count, or the error.
fn info(target: &mut dyn Target, index: u32) -> Result<Result<(u32, u32), Answer>, Error> {
    let mut bytes = requests::ask(index).to_bytes();
    let answer = target.get_irq_info(&mut bytes)?;
    let Info { flags, count, .. } = Info::from_bytes(&bytes);
    Ok(if answer == Answer::OK { Ok((flags, count)) } else { Err(answer) })
}
