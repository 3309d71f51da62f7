// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests B-01 exhaustively: for each operation, in each state of `SETUPS`, and for each n. A
//! request whose n-th step fails changes nothing and leaks nothing.

mod common;

use common::{Rig, With};
use std::ops::Range;
use vfio_irq_engine::abi::flags::{ACTION_MASK, ACTION_TRIGGER, ACTION_UNMASK};
use vfio_irq_engine::sim::{Command, IrqCaps};
use vfio_irq_engine::{Errno, Refusal};

const INTX: u32 = 0;
const MSI: u32 = 1;
const MSIX: u32 = 2;
const ERR: u32 = 3;
const REQ: u32 = 4;

type Setup = (&'static str, fn(&mut Rig));
type Operation = (&'static str, fn(&mut Rig) -> Result<(), Refusal>);

fn fine(outcome: Result<(), Refusal>) {
    assert_eq!(outcome, Ok(()));
}

/// Attaches the eventfds at these positions of `Rig::fds`.
fn some(rig: &mut Rig, index: u32, start: u32, places: Range<usize>) -> Result<(), Refusal> {
    let fds = rig.fds;
    rig.attach(index, start, &fds[places])
}

const SETUPS: &[Setup] = &[
    ("idle", |_| {}),
    ("intx active", |rig| fine(rig.attach(INTX, 0, &[rig.fds[0]]))),
    ("intx active without a trigger", |rig| fine(rig.attach(INTX, 0, &[-1]))),
    ("intx active with an unmask eventfd", |rig| {
        fine(rig.attach(INTX, 0, &[rig.fds[0]]));
        fine(rig.ask(INTX, ACTION_UNMASK, 0, 1, &With::Fds(vec![rig.fds[1]])));
    }),
    ("msi active", |rig| fine(some(rig, MSI, 0, 0..4))),
    ("msi-x active with nothing attached", |rig| fine(rig.attach(MSIX, 0, &[-1]))),
    ("msi-x active", |rig| fine(some(rig, MSIX, 0, 0..6))),
    ("msi-x active with gaps and masks", |rig| {
        fine(rig.attach(MSIX, 0, &[rig.fds[0], -1, rig.fds[2], -1, rig.fds[4], -1]));
        fine(rig.ask(MSIX, ACTION_MASK, 1, 2, &With::Nothing));
    }),
    ("the guest decodes no memory and has set DisINTx", |rig| {
        rig.sim.set_command(Command { memory: false, disintx: true });
    }),
    ("msi-x active, then the guest stops decoding and sets DisINTx", |rig| {
        fine(some(rig, MSIX, 0, 0..6));
        rig.sim.set_command(Command { memory: false, disintx: true });
    }),
    ("msi-x active with vectors that were detached", |rig| {
        fine(some(rig, MSIX, 0, 0..6));
        fine(rig.attach(MSIX, 2, &[-1; 4]));
    }),
    ("events set", |rig| {
        fine(rig.attach(ERR, 0, &[rig.fds[0]]));
        fine(rig.attach(REQ, 0, &[rig.fds[1]]));
    }),
];

const OPERATIONS: &[Operation] = &[
    ("attach one", |rig| rig.attach(MSIX, 3, &[rig.fds[11]])),
    ("attach eight", |rig| some(rig, MSIX, 0, 4..12)),
    ("attach beyond the first", |rig| some(rig, MSIX, 40, 0..3)),
    ("swap two eventfds", |rig| rig.attach(MSIX, 0, &[rig.fds[2], rig.fds[1], rig.fds[0]])),
    ("attach, detach and keep at once", |rig| {
        rig.attach(MSIX, 0, &[rig.fds[0], -1, rig.fds[9], rig.fds[9], -1, rig.fds[3]])
    }),
    ("attach four of msi", |rig| some(rig, MSI, 0, 5..9)),
    ("attach the fifth of msi", |rig| rig.attach(MSI, 4, &[rig.fds[5]])),
    ("turn on with nothing", |rig| rig.attach(MSIX, 0, &[-1])),
    ("turn on with a count of none", |rig| rig.attach(MSIX, 5, &[])),
    ("disable msi-x", |rig| rig.ask(MSIX, ACTION_TRIGGER, 0, 0, &With::Nothing)),
    ("disable msi", |rig| rig.ask(MSI, ACTION_TRIGGER, 0, 0, &With::Nothing)),
    ("loopback", |rig| rig.ask(MSIX, ACTION_TRIGGER, 0, 8, &With::Nothing)),
    ("mask", |rig| rig.ask(MSIX, ACTION_MASK, 0, 8, &With::Nothing)),
    ("mask some", |rig| rig.ask(MSIX, ACTION_MASK, 0, 4, &With::Bools(vec![0, 1, 0, 7]))),
    ("unmask", |rig| rig.ask(MSIX, ACTION_UNMASK, 0, 8, &With::Nothing)),
    ("mask by eventfd", |rig| rig.ask(MSIX, ACTION_MASK, 0, 1, &With::Fds(vec![rig.fds[12]]))),
    ("mask msi", |rig| rig.ask(MSI, ACTION_MASK, 0, 2, &With::Nothing)),
    ("intx on", |rig| rig.attach(INTX, 0, &[rig.fds[7]])),
    ("intx without a trigger", |rig| rig.attach(INTX, 0, &[-1])),
    ("intx off", |rig| rig.ask(INTX, ACTION_TRIGGER, 0, 0, &With::Nothing)),
    ("intx mask", |rig| rig.ask(INTX, ACTION_MASK, 0, 1, &With::Nothing)),
    ("intx unmask by eventfd", |rig| {
        rig.ask(INTX, ACTION_UNMASK, 0, 1, &With::Fds(vec![rig.fds[7]]))
    }),
    ("set err", |rig| rig.attach(ERR, 0, &[rig.fds[7]])),
    ("clear req", |rig| rig.attach(REQ, 0, &[-1])),
    ("a bad descriptor in the middle", |rig| {
        let fds = [rig.fds[6], rig.fds[7], -1, rig.fds[0], 999, rig.fds[5]];
        rig.attach(MSIX, 0, &fds)
    }),
    ("a descriptor of no eventfd at the end", |rig| {
        let other = rig.sim.other_file();
        rig.attach(MSIX, 0, &[rig.fds[6], rig.fds[7], other])
    }),
    ("too many vectors", |rig| some(rig, MSIX, 30, 0..8)),
];

type NamedShape = (&'static str, fn() -> IrqCaps);

const SHAPES: &[NamedShape] = &[
    ("dynamic", IrqCaps::default),
    ("fixed", || IrqCaps { dynamic: false, ..IrqCaps::default() }),
    ("short of interrupts", || IrqCaps { interrupts: 7, ..IrqCaps::default() }),
];

/// Upper bound of the steps of an operation. A test that reaches it fails instead of looping.
const ENOUGH: u64 = 200;

#[test]
fn b01_a_failing_step_changes_nothing() {
    let mut failures = 0;
    for (shape_name, shape) in SHAPES {
        for (setup_name, setup) in SETUPS {
            for (operation_name, operation) in OPERATIONS {
                let name = format!("{shape_name}, {setup_name}: {operation_name}");
                failures += every_step(&name, *shape, *setup, *operation);
            }
        }
    }
    // Most operations have several steps that can fail. A lower sum means that no step failed.
    assert!(failures > 1_000, "only {failures} failing steps were met");
}

fn every_step(
    name: &str,
    shape: fn() -> IrqCaps,
    setup: fn(&mut Rig),
    operation: fn(&mut Rig) -> Result<(), Refusal>,
) -> u64 {
    for n in 0..ENOUGH {
        let mut rig = Rig::new(IrqCaps { interrupts: 1024, ..shape() });
        setup(&mut rig);
        rig.sim.set_interrupts(shape().interrupts);
        let before = rig.sim.visible();
        let active = rig.device.active();
        let command = rig.sim.command();
        rig.sim.fail_step(n, Errno::ENOMEM);
        let outcome = operation(&mut rig);
        let met = !rig.sim.disarm();
        if let Err(refusal) = outcome {
            assert_eq!(rig.sim.visible(), before, "{name}: step {n} failed with {refusal:?}");
            assert_eq!(rig.device.active(), active, "{name}: step {n}");
        }
        assert!(!met || outcome.is_err(), "{name}: step {n} failed and the request did not");
        assert_eq!(rig.sim.command(), command, "{name}: step {n}: the guest's command register");
        rig.close();
        if !met {
            // The operation has `n` fallible steps.
            return n;
        }
    }
    panic!("{name}: more than {ENOUGH} steps");
}
