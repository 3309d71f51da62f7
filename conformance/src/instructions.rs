//! Measures the cost of each operation with the processor's time stamp: guest instructions, where
//! the lab runs it.
//!
//! Under QEMU's `-icount shift=0,sleep=off` with one processor, the time stamp counts guest
//! instructions, so two drivers are compared without noise. The time of a wait still passes there:
//! use minima and medians.

pub mod scaling;

use crate::devices::edu;
use crate::eventfd::Eventfd;
use crate::sys::{self, GuardedBytes};
use crate::vfio::{Device, Opener};
use crate::{Answer, Error, Index, Request};
use std::fmt;

/// Repetitions of operations that leave the device as it was.
const REPETITIONS: usize = 300;
/// Repetitions of operations that enable and disable, which take milliseconds.
const LONG_REPETITIONS: usize = 40;
const WARM_UP: usize = 10;

/// The cost of one operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figure {
    /// The name of the operation.
    pub op: &'static str,
    /// The samples; empty if the driver does not have the operation.
    ticks: Vec<u64>,
}

impl Figure {
    fn new(op: &'static str, mut ticks: Vec<u64>) -> Self {
        ticks.sort_unstable();
        Self { op, ticks }
    }

    /// Returns the lowest sample.
    pub fn min(&self) -> Option<u64> {
        self.ticks.first().copied()
    }

    /// Returns the median.
    pub fn median(&self) -> Option<u64> {
        self.ticks.get(self.ticks.len() / 2).copied()
    }

    /// Returns the figure as one line of JSON; `null` if the driver does not have the operation.
    pub fn json(&self) -> String {
        let (min, median, n) = (self.min(), self.median(), self.ticks.len());
        serde_json::json!({ "op": self.op, "min": min, "median": median, "n": n }).to_string()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, median] = [self.min(), self.median()]
            .map(|ticks| ticks.map_or_else(|| String::from("-"), |ticks| ticks.to_string()));
        write!(f, "{:<22}{min:>12}{median:>12}{:>6}", self.op, self.ticks.len())
    }
}

/// Returns the heading of the table whose lines [`Figure`] displays.
pub fn heading() -> String {
    format!("{:<22}{:>12}{:>12}{:>6}", "operation", "min", "median", "n")
}

/// Times one request, whatever its answer. Returns the ticks and the answer.
#[inline]
fn time_any(device: &Device, request: &GuardedBytes) -> (u64, Answer) {
    let since = sys::now();
    let answer = device.set_irqs(request);
    (sys::now() - since, answer)
}

/// Times one request, which must succeed. Returns the ticks.
#[inline]
fn time(device: &Device, request: &GuardedBytes, op: &'static str) -> Result<u64, Error> {
    let (ticks, answer) = time_any(device, request);
    if answer == Answer::OK {
        return Ok(ticks);
    }
    Err(Error::Measure { what: op.into(), why: format!("the request was refused with {answer}") })
}

fn put(device: &Device, request: &Request) -> Result<(), Error> {
    time(device, &GuardedBytes::with(&request.bytes())?, "a step before the measurement")
        .map(|_| ())
}

/// Runs `sample` again and again, the first times unmeasured. Returns the figure.
fn figure(
    op: &'static str,
    mut sample: impl FnMut() -> Result<u64, Error>,
) -> Result<Figure, Error> {
    let ticks: Vec<_> = (0..WARM_UP + REPETITIONS).map(|_| sample()).collect::<Result<_, _>>()?;
    Ok(Figure::new(op, ticks[WARM_UP..].to_vec()))
}

/// An NVMe controller (or another device with MSI-X of 65 vectors) under measurement.
struct Measured {
    device: Device,
    eventfds: Vec<Eventfd>,
}

const INDEX: Index = Index::Msix;
const WHOLE: usize = 64;

impl Measured {
    fn new(device: Device) -> Result<Self, Error> {
        Self::with(device, WHOLE)
    }

    /// Prepares eventfds for `vectors` vectors, and one more.
    fn with(device: Device, vectors: usize) -> Result<Self, Error> {
        let eventfds = (0..=vectors).map(|_| Eventfd::new()).collect::<Result<_, _>>()?;
        Ok(Self { device, eventfds })
    }

    fn attach(&self, start: usize, count: usize) -> Request {
        let fds: Vec<_> =
            self.eventfds.iter().skip(start).take(count).map(Eventfd::number).collect();
        Request::attach(INDEX, u32::try_from(start).unwrap_or(u32::MAX), &fds)
    }

    fn with_active<T>(
        &self,
        vectors: usize,
        run: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        put(&self.device, &self.attach(0, vectors))?;
        let ran = run()?;
        put(&self.device, &Request::disable(INDEX))?;
        Ok(ran)
    }

    /// Times requests that are sent in turn, with `active` vectors active. Returns their figure.
    fn in_turn(&self, op: &'static str, active: usize, requests: &[Request]) -> Figures {
        let requests = laid_out(requests)?;
        let mut turns = requests.iter().cycle();
        let sample = || {
            let ticks = turns.next().map_or(Ok(0), |request| time(&self.device, request, op));
            self.eventfds[0].take();
            ticks
        };
        Ok(vec![self.with_active(active, || figure(op, sample))?])
    }

    /// Times a pair of requests, each of which undoes the other. Returns a figure for each.
    fn pair(&self, ops: [&'static str; 2], pair: [&Request; 2], repetitions: usize) -> Figures {
        let requests = laid_out(&pair.map(Request::clone))?;
        let mut ticks = [Vec::new(), Vec::new()];
        for _ in 0..repetitions {
            for ((request, op), ticks) in requests.iter().zip(ops).zip(&mut ticks) {
                ticks.push(time(&self.device, request, op)?);
            }
        }
        Ok(ops.into_iter().zip(ticks).map(|(op, ticks)| Figure::new(op, ticks)).collect())
    }

    /// Times a request of one descriptor that fails at once, because another index is active.
    /// Returns the cost of the ioctl itself, before the core touches an interrupt.
    fn refused(&self, op: &'static str) -> Figures {
        let request = Request { index: Index::Intx.raw(), ..self.attach(0, 1) };
        let request = GuardedBytes::with(&request.bytes())?;
        let sample = || match time_any(&self.device, &request) {
            (ticks, Answer::EINVAL) => Ok(ticks),
            (_, answer) => {
                let why = format!("INTx beside MSI-X was answered with {answer}");
                Err(Error::Measure { what: op.into(), why })
            }
        };
        Ok(vec![self.with_active(1, || figure(op, sample))?])
    }

    /// Times enabling and disabling with `vectors` vectors in one request.
    fn enable(&self, ops: [&'static str; 2], vectors: usize) -> Figures {
        let pair = [&self.attach(0, vectors), &Request::disable(INDEX)];
        self.pair(ops, pair, LONG_REPETITIONS)
    }

    /// Times adding one vector to `vectors` active ones.
    fn add(&self, op: &'static str, vectors: usize) -> Figures {
        let one_more = GuardedBytes::with(&self.attach(vectors, 1).bytes())?;
        let sample = |_| self.with_active(vectors, || time(&self.device, &one_more, op));
        let ticks = (0..LONG_REPETITIONS).map(sample).collect::<Result<_, _>>()?;
        Ok(vec![Figure::new(op, ticks)])
    }

    fn retarget(&self, ops: [&'static str; 2], active: usize) -> Figures {
        let (this, other) = (self.attach(0, 1), Request { start: 0, ..self.attach(WHOLE, 1) });
        let mut figures = self.in_turn(ops[0], active, &[other, this.clone()])?;
        figures.extend(self.in_turn(ops[1], active, &[this])?);
        Ok(figures)
    }

    /// Times a pair of requests of one active vector. Returns empty figures if the driver does not
    /// have them.
    fn pair_of_one(&self, ops: [&'static str; 2], pair: [&Request; 2]) -> Figures {
        self.with_active(1, || {
            let tried = self.device.set_irqs(&GuardedBytes::with(&pair[0].bytes())?);
            if tried == Answer::ENOTTY {
                return Ok(ops.map(|op| Figure::new(op, Vec::new())).into());
            }
            put(&self.device, pair[1])?;
            self.pair(ops, pair, REPETITIONS)
        })
    }
}

type Figures = Result<Vec<Figure>, Error>;

fn laid_out(requests: &[Request]) -> Result<Vec<GuardedBytes>, Error> {
    requests.iter().map(|request| GuardedBytes::with(&request.bytes())).collect()
}

/// Measures the requests for MSI-X of a device, which must have 65 vectors. Returns a figure for
/// each.
pub fn requests(opener: &Opener) -> Figures {
    let measured = Measured::new(opener.open()?)?;
    let (mask, unmask) = (Request::mask(INDEX, 0, 1), Request::unmask(INDEX, 0, 1));
    let (detach, attach) = (Request::attach(INDEX, 0, &[-1]), measured.attach(0, 1));
    Ok([
        vec![figure("nothing", || Ok(nothing()))?],
        measured.retarget(["retarget", "same_eventfd"], 1)?,
        measured.retarget(["retarget_of_6", "same_eventfd_of_6"], 6)?,
        measured.refused("refused")?,
        measured.in_turn("loopback", 1, &[Request::loopback(INDEX, 0, 1)])?,
        measured.pair_of_one(["mask", "unmask"], [&mask, &unmask])?,
        measured.pair_of_one(["detach", "attach_again"], [&detach, &attach])?,
        measured.add("add_to_4", 4)?,
        measured.add("add_to_32", 32)?,
        measured.enable(["first_enable", "disable_1"], 1)?,
        measured.enable(["enable_64", "disable_64"], WHOLE)?,
    ]
    .concat())
}

/// Measures the cost of the measurement itself.
fn nothing() -> u64 {
    let since = sys::now();
    sys::now() - since
}

/// Measures an interrupt from the register write that raises it to the signalled eventfd. The
/// interrupt is taken on the writing thread's processor, so two time stamps enclose all of it. The
/// first figure is MSI. The second is INTx, which each signal masks and a request unmasks.
pub fn interrupt(edu: &Opener) -> Figures {
    let device = edu.open()?;
    let mut figures = Vec::new();
    for (op, index) in [("interrupt", Index::Msi), ("interrupt_intx", Index::Intx)] {
        let eventfd = Eventfd::new()?;
        put(&device, &Request::attach(index, 0, &[eventfd.number()]))?;
        figures.push(figure(op, || {
            let ticks = time_interrupt(&device, &eventfd, op)?;
            if index == Index::Intx {
                put(&device, &Request::unmask(index, 0, 1))?;
            }
            Ok(ticks)
        })?);
        put(&device, &Request::disable(index))?;
    }
    Ok(figures)
}

fn time_interrupt(device: &Device, eventfd: &Eventfd, op: &str) -> Result<u64, Error> {
    let bar = device.bar(0)?;
    let since = sys::now();
    bar.write32(edu::RAISE, 1)?;
    let took = sys::now() - since;
    bar.write32(edu::ACKNOWLEDGE, 1)?;
    let signals = eventfd.take();
    if signals == 1 {
        return Ok(took);
    }
    let why = format!("one interrupt signalled the eventfd {signals} times");
    Err(Error::Measure { what: op.into(), why })
}
