//! The contract as cases. Each case is named after its rule and says what it proves. It runs
//! against the simulator in `cargo test`, and against a driver of the running kernel in
//! `vfio-irq-conformance cases`.

mod all_or_nothing;
mod allocation;
mod argument_checks;
mod counters;
mod dut;
mod err_req;
mod get_irq_info;
mod handlers_reset_close;
mod intx;
mod masks;
mod request_cost;
#[cfg(test)]
mod simulated;
mod vectors;

pub use dut::{Dut, Stop, Verdict};
pub(crate) use dut::{check, need, same};

use crate::target::{Core, Target};

/// A property that is tried: by default a rule of the contract, or an aspect of it.
#[derive(Clone, Copy, Debug)]
pub struct Case<F = fn(&mut Dut<'_>) -> Verdict> {
    /// The rule and its aspect, as `v06_too_few_is_positive`.
    pub name: &'static str,
    /// The property in a sentence.
    pub proves: &'static str,
    pub(crate) run: F,
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

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Ok(()) => Self::Held,
            Err(Stop::Broken(why)) => Self::Broken(why),
            Err(Stop::NotApplicable(why)) => Self::NotApplicable(why),
        }
    }
}

/// Which rules a host is held to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Profile {
    /// What user space may rely on everywhere: the rules that Linux answers
    #[default]
    Linux,
    /// Also what goes further: I-07 and the rules B
    Full,
}

impl Profile {
    /// Returns the cases of the profile, in the order of the rules.
    pub fn cases(self) -> impl Iterator<Item = &'static Case> {
        let further = |case: &Case| case.name.starts_with('b') || case.name.starts_with("i07");
        all().filter(move |case| self == Self::Full || !further(case))
    }

    /// Returns the core whose answers the profile expects.
    pub fn core(self) -> Core {
        match self {
            Self::Linux => Core::C,
            Self::Full => Core::Rust,
        }
    }
}

impl<F> Case<F> {
    /// Returns the rule: `V-06` of `v06_too_few_is_positive`.
    pub fn rule(&self) -> String {
        let (rule, _) = self.name.split_once('_').unwrap_or((self.name, ""));
        let (letter, number) = rule.split_at(rule.len().min(1));
        format!("{}-{number}", letter.to_uppercase())
    }
}

impl Case {
    /// Tries the case on a freshly opened device and checks that closing releases everything.
    /// Returns the outcome.
    pub fn try_on(&self, target: &mut dyn Target) -> Outcome {
        let opened = target.open().map_err(Stop::from);
        let tried = opened.and_then(|()| (self.run)(&mut Dut::new(target)));
        tried.and_then(|()| Dut::new(target).close()).into()
    }
}

/// Returns all cases, in the order of the rules.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let groups = [
        get_irq_info::CASES,
        argument_checks::CASES,
        intx::CASES,
        vectors::CASES,
        allocation::CASES,
        handlers_reset_close::CASES,
        err_req::CASES,
        all_or_nothing::CASES,
        counters::CASES,
        masks::CASES,
        request_cost::CASES,
    ];
    groups.into_iter().flatten()
}

/// Declares functions of one signature, and a list of them as [`Case`]s: the name of each with its
/// documentation.
macro_rules! list {
    ($visibility:vis $LIST:ident: $Function:ty = $parameters:tt;
     $($(#[doc = $doc:literal])+ fn $name:ident $body:block)*) => {
        $($(#[doc = $doc])+ fn $name $parameters -> $crate::cases::Verdict $body)*

        /// The functions of this file, each as a case.
        $visibility const $LIST: &[$crate::cases::Case<$Function>] = &[$($crate::cases::Case {
            name: stringify!($name),
            proves: concat!($($doc),+),
            run: $name,
        }),*];
    };
}

/// Declares the cases of a file: functions of the device under test that are listed in `CASES`, and
/// tests on the simulator.
///
/// A case `(dut, index, count in N..)` runs for MSI and for MSI-X where the device has at least `N`
/// vectors. A case `(dut, index on INDEXES)` runs for each of the indexes that the device has.
macro_rules! cases {
    ($($(#[doc = $doc:literal])+ fn $name:ident($($arguments:tt)+) $body:block)*) => {
        $(cases! { @function [$(#[doc = $doc])+] $name($($arguments)+) $body })*

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
    (@function [$($doc:tt)+] $name:ident($dut:ident) $body:block) => {
        $($doc)+ fn $name($dut: &mut $crate::cases::Dut<'_>) -> $crate::cases::Verdict $body
    };
    (@function [$($doc:tt)+] $name:ident($dut:ident, $index:ident, $count:pat in $least:literal ..)
        $body:block) => {
        $($doc)+ fn $name($dut: &mut $crate::cases::Dut<'_>) -> $crate::cases::Verdict {
            $dut.each($least, |$dut, $index, $count| $body)
        }
    };
    (@function [$($doc:tt)+] $name:ident($dut:ident, $index:ident on $indexes:ident)
        $body:block) => {
        $($doc)+ fn $name($dut: &mut $crate::cases::Dut<'_>) -> $crate::cases::Verdict {
            $dut.on(&$indexes, |$dut, $index| $body)
        }
    };
}
use cases;
pub(crate) use list;
