//! Sends thousands of random requests while the device interrupts all the time. No interrupt is
//! lost and no resource leaks, even if the process is killed in the middle.
//!
//! An interrupt is **lost** if these conditions hold:
//!
//! - The device completed a command on a vector that is attached and not masked.
//! - The vector has been attached since the command was sent.
//! - Neither of the vector's two eventfds was signalled for a second, counted from the completion
//!   or from the unmask, whichever was later.
//!
//! A masked interrupt is owed after the unmask. An interrupt of a vector that was detached or
//! disabled meanwhile is not owed.
//!
//! Linux's core disables a vector while it replaces the trigger. On a machine with several
//! processors, an interrupt in that window is lost. With Linux's core such losses are counted and
//! are no failure; with the Rust core they are (`CONTRACT.md`, B-02).

mod queue_load;
mod random_requests;
mod resources;
mod vector_states;

pub use queue_load::Tally;
pub use random_requests::Sent;
pub use resources::{Resources, SLAB_TOLERANCE};

use crate::devices::Stimulus;
use crate::devices::nvme::Controller;
use crate::target::Core;
use crate::vfio::Opener;
use crate::{Error, Index};
use fastrand::Rng;
use random_requests::RandomRequests;
use std::fmt;
use std::process::{Command, Stdio};
use std::time::Duration;
use vector_states::VectorStates;

/// The vectors under test, each with a queue that interrupts.
const VECTORS: u32 = 12;

/// The parameters of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Address of an NVMe controller.
    pub bdf: String,
    /// The core. Linux's core gets no masks and no failing requests.
    pub core: Core,
    /// The number of requests.
    pub requests: u64,
    /// The seed of the requests.
    pub seed: u64,
}

/// The result of a run, or of processes that were killed in the middle.
#[derive(Clone, Debug)]
pub struct Report {
    /// The core that answered.
    pub core: Core,
    /// The requests that were sent; `None` if the processes that sent them were killed.
    pub sent: Option<Sent>,
    /// The experiment and its size, for the last line.
    pub summary: String,
    /// The completions and signals of the device.
    pub tally: Tally,
    /// Resources in use before, with the device closed.
    pub before: Resources,
    /// Resources in use after.
    pub after: Resources,
}

impl Report {
    /// Returns true if the device worked, nothing leaked, and no interrupt was lost as far as the
    /// core promises that.
    pub fn is_clean(&self) -> bool {
        let owed = self.core == Core::C || self.tally.stalls.is_empty();
        owed && self.tally.raised > 0 && self.after.back_to(&self.before)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sent.iter().try_for_each(|sent| writeln!(f, "{sent}"))?;
        self.tally.stalls.iter().try_for_each(|stall| writeln!(f, "lost: {stall}"))?;
        writeln!(f, "before: {}", self.before)?;
        writeln!(f, "after:  {}", self.after)?;
        let (lost, leaked) = (self.tally.stalls.len(), !self.after.back_to(&self.before));
        write!(f, "{} lost={lost} leaked={leaked}", self.summary)
    }
}

/// Runs the plan twice: first a short round, so that permanent allocations of the system are made.
/// Returns the report.
pub fn run(plan: &Plan) -> Result<Report, Error> {
    round(&Plan { requests: 200, ..plan.clone() })?;
    let before = Resources::settled(&Resources::count()?)?;
    let (sent, tally) = round(plan)?;
    let after = Resources::settled(&before)?;
    let Tally { raised, signalled, excused, .. } = tally;
    let summary = format!("stress raised={raised} signalled={signalled} excused={excused}");
    Ok(Report { core: plan.core, sent: Some(sent), summary, tally, before, after })
}

/// Opens the device, sends the requests, and closes it.
fn round(plan: &Plan) -> Result<(Sent, Tally), Error> {
    let opener = Opener::new(&plan.bdf)?;
    let device = opener.open()?;
    let states = VectorStates::new(VECTORS)?;
    let beyond = plan.core == Core::Rust;
    let mut requests = RandomRequests::new(&device, &states, plan.seed, beyond)?;
    let mut controller = Controller::new(device.bar(0)?, opener.dma());
    controller.ready(Index::Msix, VECTORS)?;
    let tally = std::thread::scope(|scope| {
        let load = scope.spawn(|| queue_load::run(&mut controller, &states));
        let sent = (0..plan.requests)
            .try_for_each(|_| {
                requests.send_one()?;
                // Every queue is served between two requests.
                let seen = states.passes();
                while states.passes() < seen + 2 && !load.is_finished() {
                    std::thread::yield_now();
                }
                Ok(())
            })
            .and_then(|()| requests.finish());
        states.stop();
        let tally = load.join().unwrap_or_else(|_| {
            Err(Error::Silent { device: "NVMe controller", why: "its thread ended".into() })
        });
        sent.and(tally)
    })?;
    Ok((requests.sent, tally))
}

/// Starts processes that run the plan without end, and kills each in the middle. Uses the device
/// again after each. Returns the result.
pub fn kill(plan: &Plan, after: Duration, rounds: u32) -> Result<Report, Error> {
    let short = Plan { requests: 100, ..plan.clone() };
    round(&short)?;
    let before = Resources::settled(&Resources::count()?)?;
    let mut random = Rng::with_seed(plan.seed);
    let mut tally = Tally::default();
    for n in 0..rounds {
        kill_one(plan, n, after + Duration::from_millis(random.u64(..200)))?;
        tally.add(round(&short)?.1);
    }
    let after = Resources::settled(&before)?;
    let summary = format!("killed rounds={rounds}");
    Ok(Report { core: plan.core, sent: None, summary, tally, before, after })
}

fn kill_one(plan: &Plan, n: u32, after: Duration) -> Result<(), Error> {
    let seed = plan.seed.wrapping_add(u64::from(n));
    let endless = u64::MAX.to_string();
    let mut child = Command::new("/proc/self/exe")
        .args(["stress", "--bdf", &plan.bdf, "--core", &plan.core.to_string()])
        .args(["--seed", &seed.to_string(), "--requests", &endless])
        .stdout(Stdio::null())
        .spawn()?;
    std::thread::sleep(after);
    let ended = child.try_wait()?;
    child.kill()?;
    child.wait()?;
    match ended {
        None => Ok(()),
        Some(status) => Err(Error::Table(format!("a process ended by itself, with {status}"))),
    }
}
