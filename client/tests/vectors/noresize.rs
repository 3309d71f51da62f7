//! Hosts that cannot add vectors.

use crate::hosts::{Storm, old, triggers};
use std::sync::Arc;
use vfio_irq::sim::{IrqCaps, Simulated};
use vfio_irq::{Error, Index, NoResize, Trigger, Vectors};

#[test]
fn the_first_enable_reserves_the_whole_table_and_disturbs_no_vector() {
    let device = old();
    let vectors = Vectors::open(Arc::clone(&device), Index::Msix).unwrap();
    assert!(!vectors.capabilities().resizable());
    let all: [Trigger; 64] = triggers();
    let mut held = Vec::new();
    for (number, trigger) in (0..64).zip(&all) {
        held.push(vectors.enable(number, trigger).unwrap());
        assert_eq!(device.allocated(), 64);
    }
    assert!(all.iter().all(|trigger| trigger.take() == 0));
    (0..64).for_each(|number| device.raise(number));
    assert!(all.iter().all(|trigger| trigger.take() == 1));
}

#[test]
fn a_reserve_can_be_limited_and_takes_what_there_is() {
    let device = old();
    let policy = NoResize::ReserveAll { most: 8 };
    let vectors = Vectors::with_policy(Arc::clone(&device), Index::Msix, policy).unwrap();
    let _first = vectors.enable(0, Trigger::new().unwrap()).unwrap();
    assert_eq!(device.allocated(), 8);
    let beyond = vectors.enable(8, Trigger::new().unwrap()).unwrap_err();
    assert!(matches!(beyond, Error::BeyondReserved { number: 8, reserved: 8, .. }), "{beyond}");

    let poor =
        Arc::new(Simulated::with(IrqCaps { dynamic: false, interrupts: 5, ..IrqCaps::default() }));
    let vectors = Vectors::open(Arc::clone(&poor), Index::Msix).unwrap();
    let six = (0..6).map(|number| (number, Trigger::new().unwrap()));
    let error = vectors.enable_many(six).unwrap_err();
    assert!(matches!(error, Error::TooFew { asked: 6, available: 5, .. }), "{error}");
    let _some = vectors.enable(2, Trigger::new().unwrap()).unwrap();
    assert_eq!(poor.allocated(), 5);
}

#[test]
fn after_a_reenable_no_waiter_sleeps_on_a_lost_interrupt() {
    let device = old();
    let storm = Storm(Arc::clone(&device), (0..16).collect());
    let policy = NoResize::Reenable { spare: 0 };
    let vectors = Vectors::with_policy(storm, Index::Msix, policy).unwrap();
    let all: [Trigger; 16] = triggers();
    let mut held = Vec::new();
    for (number, trigger) in (0..16).zip(&all) {
        held.push(vectors.enable(number, trigger).unwrap());
        let (before, after) = all.split_at(number as usize);
        assert!(before.iter().all(|trigger| trigger.take() == 1), "each is told, once");
        assert!(after.iter().all(|trigger| trigger.take() == 0));
    }
    assert!(device.lost() > 0, "interrupts arrived while the index was disabled");
    (0..16).for_each(|number| device.raise(number));
    assert!(all.iter().all(|trigger| trigger.take() == 1));
}

#[test]
fn spare_vectors_make_the_next_ones_free() {
    let device = old();
    let policy = NoResize::Reenable { spare: 7 };
    let vectors = Vectors::with_policy(Arc::clone(&device), Index::Msix, policy).unwrap();
    let first = Trigger::new().unwrap();
    let mut held = vec![vectors.enable(0, &first).unwrap()];
    for number in 1..16 {
        held.push(vectors.enable(number, Trigger::new().unwrap()).unwrap());
    }
    assert_eq!(first.take(), 1, "enabled anew once: with 8, then with 16");
}

#[test]
fn masks_survive_a_reenable_and_unmask_signals_once() {
    let device = old();
    let storm = Storm(Arc::clone(&device), vec![0, 1]);
    let policy = NoResize::Reenable { spare: 0 };
    let vectors = Vectors::with_policy(storm, Index::Msix, policy).unwrap();
    let [open, masked] = triggers();
    let _open = vectors.enable(0, &open).unwrap();
    let closed = vectors.enable(1, &masked).unwrap();
    for trigger in [&open, &masked] {
        trigger.take();
    }
    closed.mask().unwrap();
    let _third = vectors.enable(2, Trigger::new().unwrap()).unwrap();
    assert_eq!([open.take(), masked.take()], [1, 0]);
    closed.mask().unwrap();
    closed.unmask().unwrap();
    assert_eq!(masked.take(), 1, "the interrupt that arrived while the index was disabled");
    closed.mask().unwrap();
    let _fourth = vectors.enable(3, Trigger::new().unwrap()).unwrap();
    device.raise(1);
    assert_eq!(masked.take(), 0, "masked as before");
    closed.unmask().unwrap();
    assert!(masked.take() > 0);
    closed.mask().unwrap();
    closed.unmask().unwrap();
    assert_eq!(masked.take(), 0, "owed once");
}

#[test]
fn a_larger_set_that_cannot_be_had_leaves_the_old_one() {
    let device =
        Arc::new(Simulated::with(IrqCaps { dynamic: false, interrupts: 4, ..IrqCaps::default() }));
    let policy = NoResize::Reenable { spare: 0 };
    let vectors = Vectors::with_policy(Arc::clone(&device), Index::Msix, policy).unwrap();
    let all: [Trigger; 4] = triggers();
    let held = vectors.enable_many((0..4).zip(&all)).unwrap();
    let error = vectors.enable(4, Trigger::new().unwrap()).unwrap_err();
    assert!(matches!(error, Error::TooFew { asked: 5, available: 4, .. }), "{error}");
    for (number, trigger) in (0..4).zip(&all) {
        assert_eq!(trigger.take(), 1, "it was away for a moment");
        device.raise(number);
        assert_eq!(trigger.take(), 1);
    }
    // Another device takes the interrupts while the index is disabled.
    device.set_interrupts(2);
    let error = vectors.enable(4, Trigger::new().unwrap()).unwrap_err();
    let Error::Unrestored { lost, cause } = &error else { unreachable!("{error}") };
    assert_eq!(*lost, [0, 1, 2, 3]);
    assert!(matches!(**cause, Error::TooFew { available: 2, .. }));
    assert!(!vectors.is_active() && vectors.enabled().is_empty());
    drop(held);
    assert_eq!(device.leaks(), None);
}

#[test]
fn msi_is_a_set_everywhere() {
    let device = Arc::new(Simulated::new());
    let policy = NoResize::Reenable { spare: 0 };
    let vectors = Vectors::with_policy(Arc::clone(&device), Index::Msi, policy).unwrap();
    let [a, b] = triggers();
    let _first = vectors.enable(0, &a).unwrap();
    let _second = vectors.enable(1, &b).unwrap();
    assert_eq!(a.take(), 1);
    device.raise(0);
    device.raise(1);
    assert_eq!((a.take(), b.take()), (1, 1));
}
