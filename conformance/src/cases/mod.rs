//! The contract as cases. Each case is named after its rule and says what it proves. It runs
//! against the simulator in `cargo test`, and against a driver of the running kernel in
//! `vfio-irq-conformance cases`.

mod beyond;
mod checks;
mod costs;
mod events;
mod growth;
mod info;
mod intx;
mod masks;
#[cfg(test)]
mod simulated;
mod stage;
mod system;
mod vectors;

pub use stage::{Stage, Stop, Verdict};
pub(crate) use stage::{check, need};

use crate::target::Target;

/// One rule of the contract, or an aspect of it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The rule and its aspect, as `v06_too_few_is_positive`.
    pub name: &'static str,
    /// The rule in a sentence.
    pub proves: &'static str,
    run: fn(&mut Stage<'_>) -> Verdict,
}

/// How a case ended.
#[derive(Debug)]
pub enum Outcome {
    /// The rule holds.
    Held,
    /// The rule does not hold.
    Broken(String),
    /// The device or the driver has nothing to try the case on.
    NotApplicable(String),
}

impl Case {
    /// Tries the case on a freshly opened device and checks that closing releases everything.
    /// Returns the outcome.
    pub fn try_on(&self, target: &mut dyn Target) -> Outcome {
        let tried = target
            .open()
            .map_err(Stop::from)
            .and_then(|()| (self.run)(&mut Stage::new(target)))
            .and_then(|()| Ok(target.close()?));
        match (tried, target.leaks()) {
            (Ok(()), None) => Outcome::Held,
            (Ok(()), Some(leak)) => {
                Outcome::Broken(format!("the closed device still holds: {leak}"))
            }
            (Err(Stop::Broken(why)), _) => Outcome::Broken(why),
            (Err(Stop::NotApplicable(why)), _) => Outcome::NotApplicable(why),
        }
    }
}

/// Returns all cases, in the order of the rules.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let groups = [
        info::CASES,
        checks::CASES,
        intx::CASES,
        vectors::CASES,
        growth::CASES,
        system::CASES,
        events::CASES,
        beyond::CASES,
        masks::CASES,
        costs::CASES,
    ];
    groups.into_iter().flatten()
}

/// Declares the cases of a file: functions that are listed in `CASES` and tests on the simulator.
macro_rules! cases {
    ($($(#[doc = $doc:literal])+ fn $name:ident($stage:ident) $body:block)*) => {
        $($(#[doc = $doc])+ fn $name($stage: &mut $crate::cases::Stage<'_>)
            -> $crate::cases::Verdict $body)*

        pub(super) const CASES: &[$crate::cases::Case] = &[$($crate::cases::Case {
            name: stringify!($name),
            proves: concat!($($doc),+),
            run: $name,
        }),*];

        #[cfg(test)]
        mod on_the_simulator {
            $(#[test] fn $name() { $crate::cases::simulated::prove(stringify!($name), super::CASES) })*
        }
    };
}
use cases;
