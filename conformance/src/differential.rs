//! Sequences of steps, played on a target and on the model of the contract ([`crate::model`]) alike:
//! requests that are right, odd and hostile, with interrupts, resets and reopening in between. After
//! each step both are compared: the answer, the signals, the vectors with an eventfd, masks, allocated
//! interrupts, COMMAND and the capabilities.
//!
//! Linux's core and the Rust core answer the same sequences of a seed. The model knows what each does.
//! A run counts after which requests they differ, by the rule of part B. If no rule of part B says so,
//! the run fails. A sequence that shows a difference is made smaller, for a minute at most.

mod play;
mod step;

use crate::Error;
use crate::target::Target;
use play::play;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};
use step::{Chooser, Step};

/// How long a sequence that shows a difference is made smaller.
const PATIENCE: Duration = Duration::from_secs(60);

/// The parameters of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many requests, at least.
    pub requests: u64,
    /// The seed. The same seed plays the same sequences on every target with the same capabilities.
    pub seed: u64,
    /// Steps of a sequence. Each begins with a device that was just opened.
    pub steps: Range<usize>,
    /// A descriptor that is not open can be sent.
    pub closed: bool,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Sequences.
    pub sequences: u64,
    /// SET_IRQS.
    pub requests: u64,
    /// Answers, each with how often it came.
    pub answers: BTreeMap<String, u64>,
    /// Requests after which Linux's core and the Rust core differ, by the rule that says so.
    pub cores_differ: BTreeMap<&'static str, u64>,
    /// Interrupts that the device raised.
    pub raised: u64,
    /// Signals of eventfds.
    pub signals: u64,
    /// Resets.
    pub resets: u64,
    /// Times the device was closed and opened in a sequence.
    pub opened: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers: Vec<_> = self.answers.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let differ: Vec<_> =
            self.cores_differ.iter().map(|(rule, n)| format!("{rule} {n}")).collect();
        let Self { sequences, requests, raised, signals, resets, opened, .. } = self;
        writeln!(f, "answers: {}", answers.join(", "))?;
        writeln!(f, "the cores differ: {}", differ.join(", "))?;
        write!(
            f,
            "differential requests={requests} sequences={sequences} raised={raised} signals={signals} resets={resets} opened={opened}"
        )
    }
}

/// Plays sequences until enough requests were sent.
///
/// # Errors
///
/// [`Error::Differs`] with the smallest sequence that was found to show the difference; what a step
/// of the target returns.
pub fn run(target: &mut dyn Target, plan: &Plan) -> Result<Tally, Error> {
    let mut chooser = Chooser::new(target.facts(), plan.closed, plan.seed);
    let mut tally = Tally::default();
    while tally.requests < plan.requests {
        tally.sequences += 1;
        let mut steps = chooser.sequence(plan.steps.clone());
        let Some(difference) = play(target, &steps, &mut tally)? else { continue };
        steps.truncate(difference.step + 1);
        let (steps, why) = smallest(target, steps, difference.why)?;
        return Err(Error::Differs { why, steps: list(&steps) });
    }
    Ok(tally)
}

fn list(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("  {step:?}\n")).collect()
}

/// Leaves out steps, many at once and then fewer, as long as the rest shows a difference.
fn smallest(
    target: &mut dyn Target,
    mut steps: Vec<Step>,
    mut why: String,
) -> Result<(Vec<Step>, String), Error> {
    let (since, mut unused) = (Instant::now(), Tally::default());
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < steps.len() && since.elapsed() < PATIENCE {
            let mut rest = steps.clone();
            rest.drain(at..(at + size).min(steps.len()));
            match play(target, &rest, &mut unused)? {
                Some(difference) => {
                    rest.truncate(difference.step + 1);
                    (steps, why) = (rest, difference.why);
                }
                None => at += size,
            }
        }
        size = if size > 1 { size.div_ceil(2) } else { 0 };
    }
    Ok((steps, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Simulator;
    use vfio_irq_engine::sim::IrqCaps;

    fn plan(seed: u64) -> Plan {
        Plan { requests: 20_000, seed, steps: 20..400, closed: true }
    }

    #[test]
    fn the_simulator_does_what_the_model_does() {
        for (seed, dynamic, msi_maskable) in
            [(1, true, true), (2, false, true), (3, true, false), (4, false, false)]
        {
            let caps = IrqCaps { dynamic, msi_maskable, ..IrqCaps::default() };
            let tally =
                run(&mut Simulator::new(caps), &plan(seed)).unwrap_or_else(|e| panic!("{e}"));
            assert!(tally.requests >= 20_000 && tally.signals > 1000, "{tally}");
            for rule in ["B-01", "B-03"] {
                assert!(tally.cores_differ.contains_key(rule), "{tally}");
            }
        }
    }
}
