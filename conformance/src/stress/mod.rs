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

mod board;
mod load;
mod requests;
mod resources;

pub use load::Tally;
pub use requests::Sent;
pub use resources::{Resources, SLAB_TOLERANCE};

use crate::devices::Stimulus;
use crate::devices::nvme::Controller;
use crate::target::Core;
use crate::vfio::Opener;
use crate::{Error, Index};
use board::Board;
use requests::{Dice, Player};
use std::fmt;
use std::process::{Command, Stdio};
use std::time::Duration;

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

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The core that answered.
    pub core: Core,
    /// The requests that were sent.
    pub sent: Sent,
    /// The completions and signals of the device.
    pub tally: Tally,
    /// Resources in use before, with the device closed.
    pub before: Resources,
    /// Resources in use after.
    pub after: Resources,
}

impl Report {
    /// Returns true if nothing leaked and no owed interrupt was lost.
    pub fn is_clean(&self) -> bool {
        owed(self.core, &self.tally) && self.after.back_to(&self.before)
    }
}

/// Returns true if no interrupt was lost, as far as the core promises that.
fn owed(core: Core, tally: &Tally) -> bool {
    core == Core::C || tally.stalls.is_empty()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, tally) = (&self.sent, &self.tally);
        writeln!(
            f,
            "sent: {} enables, {} disables, {} attaches, {} re-targets, {} detaches, {} masks, \
             {} unmasks, {} that had to fail",
            sent.enables,
            sent.disables,
            sent.attaches,
            sent.retargets,
            sent.detaches,
            sent.masks,
            sent.unmasks,
            sent.refusals,
        )?;
        tally.stalls.iter().try_for_each(|stall| writeln!(f, "lost: {stall}"))?;
        writeln!(f, "before: {}", self.before)?;
        writeln!(f, "after:  {}", self.after)?;
        let Tally { raised, signalled, excused, stalls } = tally;
        let leaked = !self.after.back_to(&self.before);
        let lost = stalls.len();
        write!(
            f,
            "stress raised={raised} signalled={signalled} excused={excused} lost={lost} leaked={leaked}"
        )
    }
}

/// Runs the plan twice: first a short round, so that permanent allocations of the system are made.
/// Returns the report.
pub fn run(plan: &Plan) -> Result<Report, Error> {
    round(&Plan { requests: 200, ..plan.clone() })?;
    let before = Resources::settled(&Resources::count()?)?;
    let (sent, tally) = round(plan)?;
    let after = Resources::settled(&before)?;
    Ok(Report { core: plan.core, sent, tally, before, after })
}

/// Opens the device, sends the requests, and closes it.
fn round(plan: &Plan) -> Result<(Sent, Tally), Error> {
    let opener = Opener::new(&plan.bdf)?;
    let device = opener.open()?;
    let board = Board::new(VECTORS)?;
    requests::attach_all(&device, &board)?;
    let mut controller = Controller::new(device.bar(), opener.dma());
    controller.ready(Index::Msix, VECTORS)?;
    let beyond = plan.core == Core::Rust;
    let mut player = Player::new(&device, &board, plan.seed, beyond)?;
    let tally = std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&mut controller, &board));
        let played = (0..plan.requests)
            .try_for_each(|_| {
                player.play()?;
                // Every queue is served between two requests.
                let seen = board.passes();
                while board.passes() < seen + 2 && !load.is_finished() {
                    std::thread::yield_now();
                }
                Ok(())
            })
            .and_then(|()| player.finish());
        board.stop();
        let tally = load.join().unwrap_or_else(|_| {
            Err(Error::Silent { device: "NVMe controller", why: "its thread ended".into() })
        });
        played.and(tally)
    })?;
    Ok((player.sent, tally))
}

/// The result of processes that were killed in the middle.
#[derive(Clone, Debug)]
pub struct Killed {
    /// The core that answered.
    pub core: Core,
    /// The number of killed processes.
    pub rounds: u32,
    /// Resources in use before the first process.
    pub before: Resources,
    /// Resources in use after.
    pub after: Resources,
    /// The device's tally when it was used again after the last.
    pub again: Tally,
}

impl Killed {
    /// Returns true if everything is released and the device works.
    pub fn is_clean(&self) -> bool {
        self.after.back_to(&self.before) && owed(self.core, &self.again) && self.again.raised > 0
    }
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut stalls = self.again.stalls.iter();
        stalls.try_for_each(|stall| writeln!(f, "lost: {stall}"))?;
        writeln!(f, "before: {}", self.before)?;
        writeln!(f, "after:  {}", self.after)?;
        let leaked = !self.after.back_to(&self.before);
        let (rounds, lost) = (self.rounds, self.again.stalls.len());
        write!(f, "killed rounds={rounds} lost={lost} leaked={leaked}")
    }
}

/// Starts processes that run the plan without end, and kills each in the middle. Uses the device
/// again after each. Returns the result.
pub fn kill(plan: &Plan, after: Duration, rounds: u32) -> Result<Killed, Error> {
    let short = Plan { requests: 100, ..plan.clone() };
    round(&short)?;
    let before = Resources::settled(&Resources::count()?)?;
    let mut dice = Dice::new(plan.seed);
    let mut again = Tally::default();
    for n in 0..rounds {
        kill_one(plan, n, after + Duration::from_millis(u64::from(dice.below(200))))?;
        let (_, tally) = round(&short)?;
        again.raised += tally.raised;
        again.signalled += tally.signalled;
        again.excused += tally.excused;
        again.stalls.extend(tally.stalls);
    }
    let after = Resources::settled(&before)?;
    Ok(Killed { core: plan.core, rounds, before, after, again })
}

fn kill_one(plan: &Plan, n: u32, after: Duration) -> Result<(), Error> {
    let this = std::path::Path::new("/proc/self/exe");
    let failed = |source| Error::File { path: this.into(), source };
    let seed = plan.seed.wrapping_add(u64::from(n));
    let endless = u64::MAX.to_string();
    let mut child = Command::new(this)
        .args(["stress", "--bdf", &plan.bdf, "--core", &plan.core.to_string()])
        .args(["--seed", &seed.to_string(), "--requests", &endless])
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    std::thread::sleep(after);
    let ended = child.try_wait().map_err(failed)?;
    child.kill().map_err(failed)?;
    child.wait().map_err(failed)?;
    match ended {
        None => Ok(()),
        Some(status) => Err(Error::Table(format!("a process ended by itself, with {status}"))),
    }
}
