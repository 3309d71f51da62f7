//! Driver bugs of the past that no rule of the contract covers. Each test has a process of its own,
//! because the process may never end if the bug is back.

mod disintx;
mod hidden_resets;
mod low_power;
mod withheld_pages;

use crate::cases::{Case, Outcome, Stop, Verdict, check};
use crate::vfio::Device;
use crate::{Answer, Error, Request, sys::GuardedBytes};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest run before a test counts as stuck. On an idle machine a test takes a second or two.
const LIMIT: Duration = Duration::from_secs(60);

/// The devices under test.
#[derive(Clone, Debug)]
pub struct Place {
    /// Address of an NVMe controller that is bound to a VFIO driver.
    pub bdf: String,
    /// Address of another device that is bound to a VFIO driver.
    pub other: Option<String>,
}

/// A bug of the past: the property that holds now.
pub type Regression = fn(&Place) -> Verdict;

/// Returns all regressions.
pub fn all() -> impl Iterator<Item = &'static Case<Regression>> {
    [low_power::ALL, disintx::ALL, hidden_resets::ALL, withheld_pages::ALL].into_iter().flatten()
}

/// The word that the process of one regression prints before its reason.
const HELD: &str = "ok";
const BROKEN: &str = "FAIL";
const NOT_APPLICABLE: &str = "n/a";

impl Case<Regression> {
    /// Tries the regression in this process, which may never end. Returns the text that
    /// [`Self::try_apart`] parses.
    pub fn try_here(&self, place: &Place) -> String {
        match (self.run)(place) {
            Ok(()) => HELD.into(),
            Err(Stop::Broken(why)) => format!("{BROKEN} {why}"),
            Err(Stop::NotApplicable(why)) => format!("{NOT_APPLICABLE} {why}"),
        }
    }

    /// Tries the regression in a process of its own. Returns the outcome.
    pub fn try_apart(&self, place: &Place) -> Outcome {
        let said = self.start(place).and_then(wait);
        match said.as_deref().map(|said| said.trim().split_once(' ').unwrap_or((said.trim(), ""))) {
            Ok((HELD, _)) => Outcome::Held,
            Ok((NOT_APPLICABLE, why)) => Outcome::NotApplicable(why.into()),
            Ok((BROKEN, why)) => Outcome::Broken(why.into()),
            Ok(_) => Outcome::Broken("its process died".into()),
            Err(error) => Outcome::Broken(error.to_string()),
        }
    }

    fn start(&self, place: &Place) -> Result<Child, Error> {
        let mut command = Command::new(THIS);
        command.args(["regression", "--name", self.name, "--bdf", &place.bdf]);
        if let Some(other) = &place.other {
            command.args(["--other", other]);
        }
        Ok(command.stdout(Stdio::piped()).spawn()?)
    }
}

/// The path of this program.
const THIS: &str = "/proc/self/exe";

/// Waits for a process to end. Returns its output.
fn wait(mut child: Child) -> Result<String, Error> {
    let since = Instant::now();
    while child.try_wait()?.is_none() {
        if since.elapsed() > LIMIT {
            // The process is not reaped: a process that is stuck in the kernel cannot be killed.
            child.kill()?;
            return Ok(format!("{BROKEN} it has not ended after {} seconds", LIMIT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said)?;
    }
    Ok(said)
}

fn ask(device: &Device, request: &Request) -> Result<Answer, Error> {
    Ok(device.set_irqs(&GuardedBytes::with(&request.bytes())?))
}

/// Sends a request and fails unless it succeeds.
fn must(device: &Device, request: &Request) -> Verdict {
    let answer = ask(device, request)?;
    check(answer == Answer::OK, || format!("{request} answered {answer}"))
}
