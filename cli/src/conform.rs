//! `vfio-irq conform`: the rules of the contract, tried on a device.

use crate::complete;
use crate::error::Error;
use crate::info::{VfToken, device};
use crate::pci::System;
use crate::report::{self, Out};
use crate::target::{Target, TargetName};
use clap_complete::engine::ArgValueCompleter;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::Path;
use vfio_irq_conformance::cases::{Case, Outcome, Profile};
use vfio_irq_conformance::pin::Pinned;
use vfio_irq_conformance::target::{Core, Kernel, Simulator, Socket, Target as Tested};
use vfio_irq_engine::sim::IrqCaps;

/// The options of `conform`.
#[derive(clap::Args)]
pub struct Options {
    /// The device; it is reset, and nothing else may be using it
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    target: TargetName,
    /// Which rules the device is held to
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Only cases whose name contains this text, as v06
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Print the Test Anything Protocol
    #[arg(long, conflicts_with = "json")]
    tap: bool,
}

/// What `conform --json` prints.
#[derive(Serialize, JsonSchema)]
pub struct Document {
    /// The device.
    target: String,
    /// `linux` or `full`.
    profile: &'static str,
    /// Number of cases that held.
    held: usize,
    /// Number of cases that did not hold.
    broken: usize,
    /// Number of cases that do not apply to the device.
    not_applicable: usize,
    /// The cases, in the order of the rules.
    cases: Vec<Tried>,
}

/// A case and how it ended.
#[derive(Serialize, JsonSchema)]
struct Tried {
    /// The rule of CONTRACT.md: `V-06`.
    rule: String,
    /// The name of the case.
    case: &'static str,
    /// `held`, `broken` or `not-applicable`.
    verdict: Verdict,
    /// What the case proves.
    proves: &'static str,
    /// Why it did not hold, or does not apply; `null` if it held.
    why: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Held,
    Broken,
    NotApplicable,
}

impl Tried {
    fn new(case: &Case, outcome: Outcome) -> Self {
        let (verdict, why) = match outcome {
            Outcome::Held => (Verdict::Held, None),
            Outcome::Broken(why) => (Verdict::Broken, Some(why)),
            Outcome::NotApplicable(why) => (Verdict::NotApplicable, Some(why)),
        };
        Self { rule: case.rule(), case: case.name, verdict, proves: case.proves.trim(), why }
    }

    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Held => "ok",
            Verdict::Broken => "BROKEN",
            Verdict::NotApplicable => "n/a",
        };
        let why = self.why.as_deref().unwrap_or(self.proves);
        format!("{:<5} {verdict:<6}  {:<38}  {why}\n", self.rule, self.case)
    }

    /// Formats the case as the `number`th of TAP 14.
    fn tap(&self, number: usize) -> String {
        let Self { rule, case, why, .. } = self;
        let why = why.as_deref().unwrap_or_default();
        match self.verdict {
            Verdict::Held => format!("ok {number} - {case}\n"),
            Verdict::NotApplicable => format!("ok {number} - {case} # SKIP {why}\n"),
            Verdict::Broken => {
                // A JSON string is one of YAML as well.
                let why = serde_json::Value::from(why);
                format!(
                    "not ok {number} - {case}\n  ---\n  rule: {rule}\n  message: {why}\n  ...\n"
                )
            }
        }
    }
}

/// Tries the rules, and fails if one does not hold.
pub fn run(system: &System, out: Out, options: &Options) -> Result<(), Error> {
    let target = options.target.find(system)?;
    let chosen: Vec<_> =
        options.profile.cases().filter(|case| case.name.contains(&options.only)).collect();
    if chosen.is_empty() {
        let what = format!("no case of this profile has {} in its name", options.only);
        return Err(Error::new(what, "`vfio-irq conform sim` shows the names").misunderstood());
    }
    // Signals are counted without a wait: the test and the interrupts share a processor.
    let _pinned = Pinned::new()?;
    let mut tested = open(system, &target, options.profile.core())?;
    if options.tap {
        report::print(&format!("TAP version 14\n1..{}\n", chosen.len()))?;
    }
    let mut cases = Vec::new();
    for (number, case) in (1..).zip(chosen) {
        let tried = Tried::new(case, case.try_on(tested.as_mut()));
        match (options.tap, out.json) {
            (true, _) => report::print(&tried.tap(number))?,
            (_, false) => report::print(&tried.line())?,
            (_, true) => {}
        }
        cases.push(tried);
    }
    tested.open()?;
    tested.reset()?;
    tested.close()?;
    let count = |verdict| cases.iter().filter(|case| case.verdict == verdict).count();
    let profile = match options.profile {
        Profile::Linux => "linux",
        Profile::Full => "full",
    };
    let [held, broken, not_applicable] =
        [Verdict::Held, Verdict::Broken, Verdict::NotApplicable].map(count);
    let target = target.to_string();
    let document = Document { target, profile, held, broken, not_applicable, cases };
    if !options.tap {
        out.one(&document, || document.summary())?;
    }
    if broken == 0 {
        return Ok(());
    }
    let what = format!("{} of {} breaks {}", profile, document.target, rules(&document));
    Err(Error::new(what, "CONTRACT.md says what these rules mean"))
}

impl Document {
    fn summary(&self) -> String {
        let Self { target, profile, held, broken, not_applicable, cases } = self;
        let broken_cases = cases.iter().filter(|case| case.verdict == Verdict::Broken);
        let again: String = broken_cases.map(Tried::line).collect();
        format!(
            "{again}{target}, profile {profile}: {held} held, {broken} broken, {not_applicable} not applicable\n"
        )
    }
}

/// Returns the broken rules, each once.
fn rules(document: &Document) -> String {
    let broken = document.cases.iter().filter(|case| case.verdict == Verdict::Broken);
    let mut rules: Vec<&str> = broken.map(|case| case.rule.as_str()).collect();
    rules.dedup();
    rules.join(", ")
}

fn open(system: &System, target: &Target, core: Core) -> Result<Box<dyn Tested>, Error> {
    Ok(match target {
        Target::Pci(bdf) => {
            device::check(system, &system.function(*bdf)?, &VfToken::default())?;
            Box::new(Kernel::new(&bdf.to_string(), core)?)
        }
        Target::User(path) => Box::new(socket(path, core)?),
        Target::Sim => Box::new(Simulator::new(IrqCaps::default())),
    })
}

fn socket(path: &Path, core: Core) -> Result<Socket, Error> {
    // Its error says what is wrong with a path or a server.
    drop(device::connect(path)?);
    Ok(Socket::new(path, core, None)?)
}

#[cfg(test)]
mod tests {
    use super::{Tried, Verdict};

    #[test]
    fn a_broken_case_is_told_in_each_form() {
        let why = "says \"no\"\nand more".to_owned();
        let tried = Tried {
            rule: "V-06".into(),
            case: "v06_too_few_is_positive",
            verdict: Verdict::Broken,
            proves: "Too few.",
            why: Some(why),
        };
        let tap = "not ok 3 - v06_too_few_is_positive\n  ---\n  rule: V-06\n  \
                   message: \"says \\\"no\\\"\\nand more\"\n  ...\n";
        assert_eq!(tried.tap(3), tap);
        assert!(tried.line().starts_with("V-06  BROKEN  v06_too_few_is_positive "));
    }
}
