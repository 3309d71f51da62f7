//! Runs the cases on the simulator: each on devices of all capabilities, and it must apply on one
//! at least.

use super::{Case, Outcome};
use crate::target::Simulator;
use vfio_irq_engine::sim::IrqCaps;

/// Cases about properties that only a kernel has.
const KERNEL_ONLY: [&str; 9] = [
    "i01_unwritable_is_efault",
    "v11_handlers_are_named",
    "v12_reset_leaves_vectors_working",
    "v12_attach_after_reset",
    "v12_a_cleared_table_is_repaired",
    "v13_line_closes",
    "b05_interrupts_are_counted",
    "b06_a_replacement_requests_nothing",
    "b06_costs_what_it_touches",
];

fn shapes() -> [IrqCaps; 5] {
    let whole = IrqCaps::default();
    [
        whole,
        IrqCaps { dynamic: false, msi_maskable: false, ..whole },
        IrqCaps { interrupts: 3, ..whole },
        IrqCaps { interrupts: 0, pin: false, ..whole },
        IrqCaps { msi: 0, connected: false, msix: 7, ..whole },
    ]
}

/// Tries the case of this name. Panics if it fails on a device or applies to none.
pub(super) fn prove(name: &str, cases: &[Case]) {
    let case = cases.iter().find(|case| case.name == name).expect("a case is listed by its name");
    let mut held = 0;
    let mut why_not = Vec::new();
    for shape in shapes() {
        match case.try_on(&mut Simulator::new(shape)) {
            Outcome::Held => held += 1,
            Outcome::Broken(why) => panic!("{name} on {shape:?}: {why}"),
            Outcome::NotApplicable(why) => why_not.push(why),
        }
    }
    let expected = !KERNEL_ONLY.contains(&name);
    assert_eq!(held > 0, expected, "{name} applies {held} times; elsewhere: {why_not:?}");
}

#[test]
fn names_are_unique_and_start_with_their_rule() {
    let mut names: Vec<_> = super::all().map(|case| case.name).collect();
    for name in &names {
        let (rule, rest) = name.split_at(3);
        let numbered = rule.get(1..).is_some_and(|digits| digits.parse::<u8>().is_ok());
        assert!("icxveb".contains(&rule[..1]) && numbered && rest.starts_with('_'), "{name}");
    }
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "two cases have the same name");
}
