//! A storm: all that user space can do with a device's interrupts, at once and from several threads.
//!
//! Nothing is expected of an answer: requests race with each other, with resets and with the power
//! state. What is expected is of the kernel: it says nothing (KASAN, lockdep and kmemleak of a debug
//! kernel watch), nothing leaks, and the device works afterwards, which its caller tries.

use crate::devices::{Kind, Stimulus};
use crate::eventfd::Eventfd;
use crate::sys::{self, GuardedBytes};
use crate::vfio::{self, COMMAND, Device, Opener, Unmapped};
use crate::{Answer, Error, Index, Request, flags};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Threads that send requests.
const SENDERS: u64 = 3;
/// Eventfds that the requests share, so that two threads attach the same one.
const EVENTFDS: usize = 12;
/// PMCSR: D0 and D3hot.
const POWER_STATES: [u16; 2] = [0, 3];

/// The parameters of a storm. The same seed sends the same requests; their order among the threads
/// is the scheduler's.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Address of a device bound to a VFIO driver.
    pub bdf: String,
    /// How long it lasts.
    pub time: Duration,
    /// The seed.
    pub seed: u64,
}

/// What a storm did.
#[derive(Debug, Default)]
pub struct Report {
    /// Times the device was opened.
    opened: u64,
    answers: BTreeMap<String, u64>,
    resets: u64,
    raised: u64,
    config_writes: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests: u64 = self.answers.values().sum();
        let answers: Vec<_> =
            self.answers.iter().map(|(answer, count)| format!("{answer} {count}")).collect();
        writeln!(f, "answers: {}", answers.join(", "))?;
        let Self { opened, resets, raised, config_writes, .. } = self;
        write!(
            f,
            "storm requests={requests} opened={opened} resets={resets} raised={raised} config={config_writes}"
        )
    }
}

impl Report {
    /// Returns true if the device accepted some of the requests.
    pub fn is_meaningful(&self) -> bool {
        self.answers.contains_key(&Answer::OK.to_string())
    }
}

/// Runs a storm. The device is closed and opened many times, mostly while it is in use.
pub fn run(plan: &Plan) -> Result<Report, Error> {
    let opener = Opener::new(&plan.bdf)?;
    let kind = Kind::of(vfio::identity(&plan.bdf)?);
    let eventfds = (0..EVENTFDS).map(|_| Eventfd::new()).collect::<Result<Vec<_>, _>>()?;
    let (no_eventfd, _writer) = pipe()?;
    let fds: Vec<i32> = eventfds.iter().map(Eventfd::number).collect();
    let mut random = Rng::with_seed(plan.seed);
    let (since, mut report) = (Instant::now(), Report::default());
    while since.elapsed() < plan.time {
        let round = Round {
            device: open(&opener)?,
            fds: &fds,
            no_eventfd: number(&no_eventfd),
            over: AtomicBool::new(false),
            counts: [const { AtomicU64::new(0) }; 3],
        };
        let seed = random.u64(..);
        let time = Duration::from_millis(random.u64(5..400));
        let answers = round.run(kind, &opener, seed, time)?;
        for answer in answers {
            *report.answers.entry(answer.to_string()).or_default() += 1;
        }
        report.opened += 1;
        let [resets, raised, config_writes] = round.counts.map(AtomicU64::into_inner);
        report.resets += resets;
        report.raised += raised;
        report.config_writes += config_writes;
    }
    Ok(report)
}

/// Opens the device. While another user of the machine resets it, the kernel answers EAGAIN.
fn open(opener: &Opener) -> Result<Device, Error> {
    loop {
        match opener.open() {
            Err(Error::Refused { answer: Answer::EAGAIN, .. }) => {
                thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::pipe::pipe().map_err(|source| Error::Descriptor { what: "opened", source })
}

fn number(fd: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    fd.as_raw_fd()
}

/// The device from one open to its close.
struct Round<'s> {
    device: Device,
    fds: &'s [i32],
    /// A file that is no eventfd.
    no_eventfd: i32,
    over: AtomicBool,
    /// Resets, raised interrupts, writes of configuration space.
    counts: [AtomicU64; 3],
}

impl Round<'_> {
    fn run(
        &self,
        kind: Option<Kind>,
        opener: &Opener,
        seed: u64,
        time: Duration,
    ) -> Result<Vec<Answer>, Error> {
        // NVMe needs queues, which resets end: its requests are answered, but it raises nothing.
        let stimulus = match kind {
            Some(kind @ (Kind::Edu | Kind::Igb)) => {
                kind.stimulus(&Unmapped(&self.device), opener.dma())?
            }
            _ => None,
        };
        thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS)
                .map(|n| scope.spawn(move || self.send(Rng::with_seed(seed.wrapping_add(n)))))
                .collect();
            scope.spawn(|| self.configure(Rng::with_seed(!seed)));
            scope.spawn(|| self.reset(Rng::with_seed(seed.rotate_left(32))));
            if let Some(stimulus) = stimulus {
                scope.spawn(|| self.raise(stimulus));
            }
            thread::sleep(time);
            self.over.store(true, Relaxed);
            let mut answers = Vec::new();
            for sender in senders {
                let sent = sender.join().map_err(|_| Error::Table("a sender ended".into()))?;
                answers.extend(sent?);
            }
            Ok(answers)
        })
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Relaxed)
    }

    fn count(&self, which: usize) {
        if let Some(count) = self.counts.get(which) {
            count.fetch_add(1, Relaxed);
        }
    }

    fn send(&self, mut random: Rng) -> Result<Vec<Answer>, Error> {
        let (mut bytes, mut answers) = (GuardedBytes::new()?, Vec::new());
        while self.goes_on() {
            bytes.put(&self.request(&mut random).bytes())?;
            answers.push(self.device.set_irqs(&bytes));
        }
        Ok(answers)
    }

    /// Returns a request: most are valid for an index that is active, some are hostile.
    fn request(&self, random: &mut Rng) -> Request {
        let index = match random.u8(..20) {
            0..2 => Index::Intx,
            2..5 => Index::Msi,
            5..18 => Index::Msix,
            18 => Index::Err,
            _ => Index::Req,
        };
        let start = random.u32(..6);
        let count = random.usize(..6);
        let action = [flags::MASK, flags::UNMASK][usize::from(random.bool())];
        let mut request = match random.u8(..16) {
            0..2 => Request::disable(index),
            2..8 => {
                let fds: Vec<i32> = (0..count).map(|_| self.fd(random)).collect();
                Request::attach(index, start, &fds)
            }
            8 => Request::fds(flags::UNMASK, index, 0, &[self.fd(random)]),
            9..12 => Request::none(action, index, start, random.u32(..6)),
            12 => Request::bools(action, index, start, &vec![1; count]),
            13 => Request::bools(flags::TRIGGER, index, start, &vec![1; count]),
            _ => Request::loopback(index, start, random.u32(..6)),
        };
        if random.u8(..50) == 0 {
            let words =
                [&mut request.argsz, &mut request.flags, &mut request.start, &mut request.count];
            if let Some(word) = words.into_iter().nth(random.usize(..4)) {
                *word ^= 1 << random.u32(..32);
            }
        }
        request
    }

    fn fd(&self, random: &mut Rng) -> i32 {
        match random.u8(..20) {
            0..4 => -1,
            4 => i32::MAX,
            5 => self.no_eventfd,
            _ => random.choice(self.fds).copied().unwrap_or(-1),
        }
    }

    /// Writes configuration space: the command register with DisINTx, and the power state.
    fn configure(&self, mut random: Rng) {
        let power = self.device.power_control().ok().flatten();
        while self.goes_on() {
            let (at, value) = match power {
                Some(power) if random.u8(..8) == 0 => {
                    (power, POWER_STATES[usize::from(random.bool())])
                }
                _ => (COMMAND, random.u16(..) & 0x0407),
            };
            // A device in transition refuses.
            let _ = self.device.config_write16(at, value);
            self.count(2);
            thread::sleep(Duration::from_micros(random.u64(..3000)));
        }
    }

    /// Resets the device, and puts it into low power, from which an access wakes it.
    fn reset(&self, mut random: Rng) {
        while self.goes_on() {
            thread::sleep(Duration::from_micros(random.u64(..60_000)));
            if random.u8(..4) == 0 {
                let wakeup = random.choice(self.fds).copied().unwrap_or(-1);
                let _ = sys::enter_low_power(self.device.fd(), wakeup);
            } else if self.device.reset().is_ok() {
                self.count(0);
            }
        }
    }

    /// Raises interrupts as fast as the device does. Its registers are out of reach at times.
    fn raise(&self, mut stimulus: Box<dyn Stimulus>) {
        while self.goes_on() {
            for index in [Index::Msix, Index::Msi, Index::Intx] {
                let reach = stimulus.reach(index);
                let _ = stimulus.ready(index, reach);
                for vector in 0..reach {
                    if stimulus.raise(index, vector).is_ok() {
                        self.count(1);
                    }
                }
            }
            let _ = stimulus.acknowledge();
        }
    }
}
