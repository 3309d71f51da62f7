//! A guest's MSI-X table, on the simulated VM and on the KVM of this machine. On KVM, a
//! signal of an eventfd must arrive in the interrupt controller of a virtual processor.
//!
//! The harness is not Rust's own. It lists a test that cannot run as ignored, with the reason.

mod answers;
mod machine;
mod own_routes;
mod real;
mod saved;
mod table;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    let missing = machine::missing();
    let plain = table::CASES.iter().chain(&saved::CASES).map(|(name, case)| trial(name, *case));
    let others = answers::CASES.iter().chain(&own_routes::CASES);
    let plain = plain.chain(others.map(|(name, case)| trial(name, *case)));
    let real =
        real::CASES.iter().chain(&saved::REAL).chain(&answers::REAL).chain(&own_routes::REAL).map(
            |(name, case)| {
                let trial = trial(name, *case);
                match &missing {
                    Some(why) => trial.with_kind(format!("NOT RUN, {why}")).with_ignored_flag(true),
                    None => trial,
                }
            },
        );
    libtest_mimic::run(&Arguments::from_args(), plain.chain(real).collect()).exit_code()
}

fn trial(name: &str, case: fn()) -> Trial {
    Trial::test(name, move || {
        case();
        Ok(())
    })
}
