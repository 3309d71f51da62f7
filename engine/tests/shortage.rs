// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A machine with no interrupt left (`CONTRACT.md`, V-08 and B-04).

mod common;

use common::Rig;
use vfio_irq_engine::sim::IrqCaps;
use vfio_irq_engine::{Errno, Refusal};

const MSIX: u32 = 2;
const ENOSPC: Result<(), Refusal> = Err(Refusal::Errno(Errno::ENOSPC));

/// Vectors 0 to 3 attached, on a machine that has no fifth interrupt.
fn full(dynamic: bool) -> Rig {
    let mut rig = Rig::new(IrqCaps { interrupts: 4, dynamic, ..IrqCaps::default() });
    let fds = rig.fds;
    assert_eq!(rig.attach(MSIX, 0, &fds[..4]), Ok(()));
    rig
}

#[test]
fn b04_detached_vectors_go_back_when_the_machine_refuses_another() {
    let mut rig = full(true);
    assert_eq!(rig.attach(MSIX, 1, &[-1, -1]), Ok(()));
    assert_eq!(rig.sim.allocated(), 4, "detached vectors stay allocated while there is no need");
    assert_eq!(rig.attach(MSIX, 9, &[rig.fds[4]]), Ok(()));
    assert_eq!(rig.sim.allocated(), 3, "both went back, and one was allocated");
    rig.sim.raise(9);
    assert_eq!(rig.sim.signals(rig.fds[4]), 1);
    // Attaching a vector whose interrupt was freed allocates another one.
    assert_eq!(rig.attach(MSIX, 1, &[rig.fds[5]]), Ok(()));
    rig.close();
}

#[test]
fn b04_a_masked_vector_goes_back_and_stays_masked() {
    use vfio_irq_engine::abi::flags::ACTION_MASK;
    let mut rig = full(true);
    assert_eq!(rig.ask(MSIX, ACTION_MASK, 1, 1, &common::With::Nothing), Ok(()));
    assert_eq!(rig.attach(MSIX, 1, &[-1]), Ok(()));
    assert_eq!(rig.attach(MSIX, 9, &[rig.fds[4]]), Ok(()));
    assert_eq!(rig.attach(MSIX, 9, &[-1]), Ok(()));
    assert_eq!(rig.attach(MSIX, 1, &[rig.fds[5]]), Ok(()));
    rig.sim.raise(1);
    assert_eq!(rig.sim.signals(rig.fds[5]), 0, "the mask outlives the interrupt");
    rig.close();
}

#[test]
fn v08_attached_vectors_are_never_taken_back() {
    let mut rig = full(true);
    let before = rig.sim.visible();
    assert_eq!(rig.attach(MSIX, 9, &[rig.fds[4]]), ENOSPC);
    assert_eq!(rig.sim.visible(), before);
    rig.close();
}

#[test]
fn v08_a_request_does_not_use_what_it_detaches_itself() {
    let mut rig = full(true);
    let before = rig.sim.visible();
    // Vector 3 is detached and vector 4 attached by one request. If vector 4 failed after vector 3
    // was detached, the request could not be undone.
    assert_eq!(rig.attach(MSIX, 3, &[-1, rig.fds[4]]), ENOSPC);
    assert_eq!(rig.sim.visible(), before);
    assert_eq!(rig.attach(MSIX, 3, &[-1]), Ok(()));
    assert_eq!(rig.attach(MSIX, 4, &[rig.fds[4]]), Ok(()));
    rig.close();
}

#[test]
fn b04_a_set_of_vectors_is_never_broken() {
    // NORESIZE: the set of vectors stays complete until the index is disabled.
    let mut rig = full(false);
    assert_eq!(rig.attach(MSIX, 1, &[-1]), Ok(()));
    assert_eq!(rig.attach(MSIX, 9, &[rig.fds[4]]), Err(Refusal::Errno(Errno::EINVAL)));
    assert_eq!(rig.sim.allocated(), 4);
    rig.close();
}
