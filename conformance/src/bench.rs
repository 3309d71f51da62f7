//! Measures the cost of each operation with the processor's time stamp.
//!
//! Under QEMU's `-icount shift=0,sleep=off` with one processor, the time stamp counts guest
//! instructions, so two drivers are compared without noise. The time of a wait still passes there:
//! use minima and medians.

use crate::devices::edu;
use crate::eventfd::Eventfd;
use crate::sys::{self, Guarded};
use crate::vfio::{Device, Opener};
use crate::{Answer, Error, Index, Request};
use std::fmt;

/// Repetitions of operations that take microseconds, and of those that take milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Repetitions {
    /// Repetitions of operations that leave the device as it was.
    pub short: usize,
    /// Repetitions of operations that enable and disable.
    pub long: usize,
}

impl Default for Repetitions {
    fn default() -> Self {
        Self { short: 300, long: 40 }
    }
}

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
fn time_any(device: &Device, request: &Guarded) -> (u64, Answer) {
    let since = sys::now();
    let answer = device.set_irqs(request);
    (sys::now() - since, answer)
}

/// Times one request, which must succeed. Returns the ticks.
#[inline]
fn time(device: &Device, request: &Guarded, op: &'static str) -> Result<u64, Error> {
    let (ticks, answer) = time_any(device, request);
    if answer == Answer::OK {
        return Ok(ticks);
    }
    Err(Error::Measure { what: op.into(), why: format!("the request was refused with {answer}") })
}

fn put(device: &Device, request: &Request) -> Result<(), Error> {
    time(device, &Guarded::with(&request.bytes())?, "a step before the measurement").map(|_| ())
}

/// An NVMe controller (or another device with MSI-X of 65 vectors) under measurement.
struct Bench {
    device: Device,
    eventfds: Vec<Eventfd>,
    times: Repetitions,
}

const INDEX: Index = Index::Msix;
const WHOLE: usize = 64;

impl Bench {
    fn new(device: Device, times: Repetitions) -> Result<Self, Error> {
        let eventfds = (0..=WHOLE).map(|_| Eventfd::new()).collect::<Result<_, _>>()?;
        Ok(Self { device, eventfds, times })
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

    /// Times several requests that are sent in turn. Returns their figure.
    fn in_turn(&self, op: &'static str, requests: &[Request]) -> Result<Figure, Error> {
        let requests = laid_out(requests)?;
        let mut ticks = Vec::with_capacity(self.times.short + WARM_UP);
        for request in requests.iter().cycle().take(self.times.short + WARM_UP) {
            ticks.push(time(&self.device, request, op)?);
            self.eventfds.first().map(Eventfd::take);
        }
        Ok(Figure::new(op, ticks.split_off(WARM_UP)))
    }

    /// Times a pair of requests, each of which undoes the other. Returns a figure for each.
    fn pair(&self, ops: [&'static str; 2], there: &Request, back: &Request) -> Figures {
        let (there, back) = (Guarded::with(&there.bytes())?, Guarded::with(&back.bytes())?);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for _ in 0..self.times.short + WARM_UP {
            first.push(time(&self.device, &there, ops[0])?);
            second.push(time(&self.device, &back, ops[1])?);
        }
        let (first, second) = (first.split_off(WARM_UP), second.split_off(WARM_UP));
        Ok(vec![Figure::new(ops[0], first), Figure::new(ops[1], second)])
    }

    /// Times a request of one descriptor that fails at once, because another index is active.
    /// Returns the cost of the ioctl itself, before the core touches an interrupt.
    fn refused(&self, op: &'static str) -> Result<Figure, Error> {
        let request = Request { index: Index::Intx.raw(), ..self.attach(0, 1) };
        let request = Guarded::with(&request.bytes())?;
        let mut ticks = Vec::new();
        for _ in 0..self.times.short + WARM_UP {
            let (took, answer) = time_any(&self.device, &request);
            if answer != Answer::EINVAL {
                let why = format!("INTx beside MSI-X was answered with {answer}");
                return Err(Error::Measure { what: op.into(), why });
            }
            ticks.push(took);
        }
        Ok(Figure::new(op, ticks.split_off(WARM_UP)))
    }

    /// Times enabling and disabling with `vectors` vectors in one request.
    fn enable(&self, ops: [&'static str; 2], vectors: usize) -> Figures {
        let enable = Guarded::with(&self.attach(0, vectors).bytes())?;
        let disable = Guarded::with(&Request::disable(INDEX).bytes())?;
        let (mut on, mut off) = (Vec::new(), Vec::new());
        for _ in 0..self.times.long {
            on.push(time(&self.device, &enable, ops[0])?);
            off.push(time(&self.device, &disable, ops[1])?);
        }
        Ok(vec![Figure::new(ops[0], on), Figure::new(ops[1], off)])
    }

    /// Times adding one vector to `vectors` active ones.
    fn add(&self, op: &'static str, vectors: usize) -> Result<Figure, Error> {
        let one_more = Guarded::with(&self.attach(vectors, 1).bytes())?;
        let mut ticks = Vec::new();
        for _ in 0..self.times.long {
            let add = || time(&self.device, &one_more, op);
            ticks.push(self.with_active(vectors, add)?);
        }
        Ok(Figure::new(op, ticks))
    }

    fn retarget(&self, ops: [&'static str; 2], active: usize) -> Figures {
        let (this, other) = (self.attach(0, 1), Request { start: 0, ..self.attach(WHOLE, 1) });
        self.with_active(active, || {
            Ok(vec![self.in_turn(ops[0], &[other, this.clone()])?, self.in_turn(ops[1], &[this])?])
        })
    }

    /// Times mask and unmask. Returns empty figures if the driver does not have them.
    fn mask(&self) -> Figures {
        let ops = ["mask", "unmask"];
        let (mask, unmask) = (Request::mask(INDEX, 0, 1), Request::unmask(INDEX, 0, 1));
        self.with_active(1, || {
            let tried = self.device.set_irqs(&Guarded::with(&mask.bytes())?);
            if tried == Answer::ENOTTY {
                return Ok(ops.map(|op| Figure::new(op, Vec::new())).into());
            }
            self.pair(ops, &mask, &unmask)
        })
    }
}

type Figures = Result<Vec<Figure>, Error>;

fn laid_out(requests: &[Request]) -> Result<Vec<Guarded>, Error> {
    requests.iter().map(|request| Guarded::with(&request.bytes())).collect()
}

/// Measures the requests for MSI-X of a device, which must have 65 vectors. Returns a figure for
/// each.
pub fn requests(opener: &Opener, times: Repetitions) -> Figures {
    let bench = Bench::new(opener.open()?, times)?;
    let mut figures = vec![nothing(times)];
    figures.extend(bench.retarget(["retarget", "same_eventfd"], 1)?);
    figures.extend(bench.retarget(["retarget_of_6", "same_eventfd_of_6"], 6)?);
    figures.push(bench.with_active(1, || bench.refused("refused"))?);
    let loopback = [Request::loopback(INDEX, 0, 1)];
    figures.push(bench.with_active(1, || bench.in_turn("loopback", &loopback))?);
    figures.extend(bench.mask()?);
    let (detach, attach) = (Request::attach(INDEX, 0, &[-1]), bench.attach(0, 1));
    let again = || bench.pair(["detach", "attach_again"], &detach, &attach);
    figures.extend(bench.with_active(1, again)?);
    figures.push(bench.add("add_to_4", 4)?);
    figures.push(bench.add("add_to_32", 32)?);
    figures.extend(bench.enable(["first_enable", "disable_1"], 1)?);
    figures.extend(bench.enable(["enable_64", "disable_64"], WHOLE)?);
    Ok(figures)
}

/// Measures the cost of the measurement itself.
fn nothing(times: Repetitions) -> Figure {
    let ticks = (0..times.short).map(|_| {
        let since = sys::now();
        sys::now() - since
    });
    Figure::new("nothing", ticks.collect())
}

/// Measures an interrupt from the register write that raises it to the signalled eventfd. The
/// interrupt is taken on the writing thread's processor, so two time stamps enclose all of it. The
/// first figure is MSI. The second is INTx, which each signal masks and a request unmasks.
pub fn interrupt(edu: &Opener, times: Repetitions) -> Figures {
    let device = edu.open()?;
    let mut figures = Vec::new();
    for (op, index) in [("interrupt", Index::Msi), ("interrupt_intx", Index::Intx)] {
        let eventfd = Eventfd::new()?;
        put(&device, &Request::attach(index, 0, &[eventfd.number()]))?;
        let mut ticks = Vec::new();
        for _ in 0..times.short + WARM_UP {
            ticks.push(time_interrupt(&device, &eventfd, op)?);
            if index == Index::Intx {
                put(&device, &Request::unmask(index, 0, 1))?;
            }
        }
        put(&device, &Request::disable(index))?;
        figures.push(Figure::new(op, ticks.split_off(WARM_UP)));
    }
    Ok(figures)
}

fn time_interrupt(device: &Device, eventfd: &Eventfd, op: &str) -> Result<u64, Error> {
    let bar = device.bar();
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
