//! `CONTRACT.md` over the wire: the project's own cases, as far as the protocol can carry them.

mod common;

use common::Setup;
use vfio_irq_conformance::Index;
use vfio_irq_conformance::cases::{Outcome, Profile};
use vfio_irq_conformance::differential::{self, Plan};
use vfio_irq_conformance::target::{Board, Counted, Socket, Target};
use vfio_irq_user::Interrupts;

/// The device, whose interrupts the test raises.
struct TestBoard(Interrupts);

impl Board for TestBoard {
    fn reach(&self, index: Index) -> u32 {
        match index {
            Index::Intx => 1,
            Index::Msi => 8,
            Index::Msix => common::VECTORS,
            Index::Err | Index::Req => 0,
        }
    }

    fn raise(&mut self, index: Index, vector: u32) {
        match index {
            Index::Intx => self.0.set_intx(true),
            _ => drop(self.0.raise(vector)),
        }
    }

    fn acknowledge(&mut self) {
        self.0.set_intx(false);
    }

    fn counted(&self, vector: u32) -> Counted {
        let counts = self.0.counts(vector);
        Counted {
            signals: Some(counts.signals),
            masks: counts.masks,
            unmasks: counts.unmasks,
            retargets: counts.retargets,
            loopbacks: counts.loopbacks,
            failures: counts.failures,
        }
    }

    fn attached(&self) -> Vec<u32> {
        (0..common::VECTORS).filter(|vector| self.0.is_attached(*vector)).collect()
    }
}

fn target(setup: &Setup) -> Socket {
    let board = Box::new(TestBoard(setup.bus().interrupts));
    Socket::new(&setup.path, Profile::Full.core(), Some(board)).unwrap()
}

#[test]
fn sequences_of_requests_interrupts_and_resets_do_what_the_contracts_model_does() {
    let setup = Setup::new();
    // A descriptor that is not open cannot be sent.
    let plan = Plan { requests: 5000, seed: 1, steps: 20..400, closed: false };
    let tally = differential::run(&mut target(&setup), &plan).unwrap_or_else(|e| panic!("{e}"));
    println!("{tally}");
    assert!(tally.signals > 500 && tally.resets > 0, "{tally}");
}

#[test]
fn the_cases_of_the_contract_hold() {
    let setup = Setup::new();
    let mut target = target(&setup);
    let facts = target.facts();
    assert!(facts.pin && facts.msi == 8 && facts.msi_mask_bits && facts.msix == common::VECTORS);
    let (mut held, mut not_applicable, mut broken) = (0, Vec::new(), Vec::new());
    for case in Profile::Full.cases() {
        match case.try_on(&mut target) {
            Outcome::Held => held += 1,
            Outcome::Broken(why) => broken.push(format!("{}: {why}", case.name)),
            Outcome::NotApplicable(why) => not_applicable.push(format!("{}: {why}", case.name)),
        }
    }
    println!("{held} held, not applicable: {not_applicable:#?}");
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(held > 70, "{held} cases were tried");
}
