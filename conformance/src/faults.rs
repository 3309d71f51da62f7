//! Every allocation of a request failed in turn, on a kernel with fault injection: a request that
//! fails changes nothing (B-01), and nothing leaks.
//!
//! `/proc/thread-self/fail-nth` makes the n-th allocation of this thread fail. A request is sent
//! again and again, each time with the next allocation failing, until none is left.

use crate::cases::{Dut, Stop, Verdict, check};
use crate::target::{Kernel, Target};
use crate::{Answer, Error, Index, Request, flags};
use fs_err::{self as fs, File, os::unix::fs::FileExt};
use std::fmt;
use std::path::Path;

const FAIL_NTH: &str = "/proc/thread-self/fail-nth";
/// By default only allocations that may not sleep fail, and a request makes few of them.
const ONLY_ATOMIC: &str = "/sys/kernel/debug/failslab/ignore-gfp-wait";
/// By default the kernel's log has a call trace of each fault.
const VERBOSE: &str = "/sys/kernel/debug/failslab/verbose";
/// More allocations than any request makes.
const MOST: u32 = 500;

/// A state of the device, and a request that is sent in it.
struct Scene {
    index: Index,
    /// The eventfds that are attached, from vector 0 on; none while the index is idle.
    attached: Vec<i32>,
    request: Request,
}

/// What came of one request.
#[derive(Debug, Default)]
struct Tally {
    /// Allocations that failed, and the request with them.
    refused: u32,
    /// Allocations that failed, and the request succeeded.
    tolerated: u32,
}

/// What came of all requests.
#[derive(Debug, Default)]
pub struct Report(Vec<(&'static str, Index, Tally)>);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, index, Tally { refused, tolerated }) in &self.0 {
            writeln!(f, "{index:?} {name}: {refused} refused, {tolerated} tolerated")?;
        }
        let refused: u32 = self.0.iter().map(|(_, _, tally)| tally.refused).sum();
        write!(f, "faults requests={} refused={refused}", self.0.len())
    }
}

impl Report {
    /// Returns true if faults reached the requests.
    pub fn is_meaningful(&self) -> bool {
        self.0.iter().any(|(_, _, tally)| tally.refused > 0)
    }
}

type Prepare = fn(&mut Dut<'_>, Index) -> Result<Scene, Stop>;

const VECTORS: &[(&str, Prepare)] = &[
    ("first enable", |dut, index| {
        let fds: [_; 3] = dut.fds()?;
        Ok(Scene { index, attached: Vec::new(), request: Request::attach(index, 0, &fds) })
    }),
    ("one vector more", |dut, index| {
        let attached = dut.attached::<2>(index)?.to_vec();
        let request = Request::attach(index, 2, &[dut.fd()?]);
        Ok(Scene { index, attached, request })
    }),
    ("other eventfds", |dut, index| {
        let attached = dut.attached::<4>(index)?.to_vec();
        let request = Request::attach(index, 0, &dut.fds::<4>()?);
        Ok(Scene { index, attached, request })
    }),
    ("attach, replace and detach", |dut, index| {
        let attached = dut.attached::<3>(index)?.to_vec();
        let [a, b] = dut.fds()?;
        let request = Request::attach(index, 0, &[a, -1, attached[2], b]);
        Ok(Scene { index, attached, request })
    }),
    ("mask", |dut, index| {
        let attached = dut.attached::<3>(index)?.to_vec();
        Ok(Scene { index, attached, request: Request::mask(index, 0, 4) })
    }),
    ("disable", |dut, index| {
        let attached = dut.attached::<3>(index)?.to_vec();
        Ok(Scene { index, attached, request: Request::disable(index) })
    }),
];

const INTX: &[(&str, Prepare)] = &[
    ("enable", |dut, index| {
        let request = Request::attach(index, 0, &[dut.fd()?]);
        Ok(Scene { index, attached: Vec::new(), request })
    }),
    ("another eventfd", |dut, index| {
        let attached = dut.attached::<1>(index)?.to_vec();
        let request = Request::attach(index, 0, &[dut.fd()?]);
        Ok(Scene { index, attached, request })
    }),
    ("arm a resample eventfd", |dut, index| {
        let attached = dut.attached::<1>(index)?.to_vec();
        let request = Request::fds(flags::UNMASK, index, 0, &[dut.fd()?]);
        Ok(Scene { index, attached, request })
    }),
];

const EVENT: &[(&str, Prepare)] = &[("set", |dut, index| {
    let request = Request::attach(index, 0, &[dut.fd()?]);
    Ok(Scene { index, attached: Vec::new(), request })
})];

/// Fails every allocation of every request in turn. Returns an error if a request changed anything
/// although it failed, if something leaked, or if the kernel injects no faults.
pub fn run(target: &mut Kernel) -> Result<Report, Error> {
    if !Path::new(FAIL_NTH).exists() {
        let why = "the kernel has no fault injection (CONFIG_FAULT_INJECTION, CONFIG_FAILSLAB)";
        return Err(Error::Measure { what: "a failing allocation".into(), why: why.into() });
    }
    fs::write(ONLY_ATOMIC, "N")?;
    fs::write(VERBOSE, "0")?;
    let facts = target.facts();
    let mut report = Report::default();
    let lists = [
        (Index::Msix, facts.msix >= 4, VECTORS),
        (Index::Msi, facts.msi >= 4, VECTORS),
        (Index::Intx, facts.pin && !target.disconnected(), INTX),
        (Index::Err, true, EVENT),
        (Index::Req, true, EVENT),
    ];
    for (index, _, list) in lists.into_iter().filter(|(_, there, _)| *there) {
        for (name, prepare) in list {
            match fail_each(target, index, *prepare) {
                Ok(tally) => report.0.push((name, index, tally)),
                Err(Stop::NotApplicable(_)) => {}
                Err(Stop::Broken(why)) => {
                    return Err(Error::Table(format!("{name} of {index:?}: {why}")));
                }
            }
        }
    }
    Ok(report)
}

fn fail_each(target: &mut Kernel, index: Index, prepare: Prepare) -> Result<Tally, Stop> {
    target.open()?;
    let injection = Injection::new()?;
    let (mut tally, mut dut) = (Tally::default(), Dut::new(target));
    for nth in 1..=MOST {
        let scene = prepare(&mut dut, index)?;
        let bytes = scene.request.bytes();
        // Touches the memory of requests, so that no page fault takes the fault.
        dut.info(index)?;
        injection.arm(nth)?;
        let answer = dut.target.set_irqs(&bytes);
        let reached = injection.disarm()?;
        let answer = answer?;
        let at = format!("allocation {nth}, {} answered {answer}", scene.request);
        match (reached, answer) {
            (true, Answer::OK) => tally.tolerated += 1,
            (true, _) => {
                tally.refused += 1;
                scene.is_unchanged(&mut dut).map_err(|stop| stop.at(&at))?;
            }
            (false, _) => check(answer == Answer::OK, || format!("without a fault: {at}"))?,
        }
        // The index may be idle.
        dut.send(&Request::disable(index))?;
        dut.allocates(0).map_err(|stop| stop.at(&at))?;
        if !reached {
            dut.close().map_err(|stop| stop.at(&at))?;
            return Ok(tally);
        }
    }
    Err(Stop::Broken(format!("a request makes more than {MOST} allocations")))
}

impl Scene {
    fn is_unchanged(&self, dut: &mut Dut<'_>) -> Verdict {
        if self.attached.is_empty() && self.index.raw() <= Index::Msix.raw() {
            return dut.idle(self.index, "a request that failed");
        }
        dut.all_attached(self.index, &self.attached)
    }
}

/// The file that makes the n-th allocation of this thread fail. It stays open, since an open
/// allocates.
struct Injection(File);

impl Injection {
    fn new() -> Result<Self, Error> {
        Ok(Self(File::options().read(true).write(true).open(FAIL_NTH)?))
    }

    fn arm(&self, nth: u32) -> Result<(), Error> {
        Ok(self.0.write_all_at(nth.to_string().as_bytes(), 0)?)
    }

    /// Stops the injection. Returns true if an allocation has failed.
    fn disarm(&self) -> Result<bool, Error> {
        let mut left = [0; 16];
        let len = self.0.read_at(&mut left, 0)?;
        self.arm(0)?;
        Ok(left.get(..len).is_some_and(|left| left.trim_ascii() == b"0"))
    }
}
