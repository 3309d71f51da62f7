//! A failed call changes nothing, on hosts that guarantee it (B-01) and on others.

use crate::hosts::{LikeC, no_eventfd, old, triggers};
use std::sync::Arc;
use vfio_irq::sim::{Errno, IrqCaps, Simulated};
use vfio_irq::{Error, Index, NoResize, Trigger, Vector, Vectors};

type Sim = Vectors<Arc<Simulated>>;

/// A call that can fail. Vectors 2, 3, 4 and 9 are enabled before.
type Call = fn(&Sim, &[Vector<Arc<Simulated>>]) -> Result<(), Error>;

fn fresh() -> Trigger {
    Trigger::new().unwrap()
}

const CALLS: [(&str, Call); 6] = [
    ("enable", |vectors, _| vectors.enable(0, fresh()).map(std::mem::forget)),
    ("enable far", |vectors, _| vectors.enable(63, fresh()).map(std::mem::forget)),
    ("enable many", |vectors, _| {
        let wanted = [5, 6, 7, 8].map(|number| (number, fresh()));
        vectors.enable_many(wanted).map(std::mem::forget)
    }),
    (SCATTERED, |vectors, _| {
        let wanted = [0, 1, 5, 6, 20].map(|number| (number, fresh()));
        vectors.enable_many(wanted).map(std::mem::forget)
    }),
    ("re-target", |_, held| held[1].retarget(fresh())),
    ("re-target many", |vectors, held| {
        vectors.retarget_many(held.iter().map(|vector| (vector, fresh())))
    }),
];

const SCATTERED: &str = "enable scattered";

/// Returns the visible state. Vectors that are not adjacent take several requests. The interrupts
/// that the first request allocated stay allocated, without an eventfd.
fn seen(name: &str, device: &Simulated) -> String {
    let all = device.visible();
    // The command register and the allocated vectors come first.
    match all.splitn(3, "} ").nth(2) {
        Some(rest) if name == SCATTERED => rest.into(),
        _ => all,
    }
}

fn try_every_step(device: impl Fn() -> Arc<Simulated>, policy: NoResize) {
    for (name, call) in CALLS {
        for step in 0.. {
            let device = device();
            let vectors = Vectors::with_policy(Arc::clone(&device), Index::Msix, policy).unwrap();
            let triggers: [Trigger; 4] = triggers();
            let wanted = [2, 3, 4, 9].into_iter().zip(&triggers);
            let held = vectors.enable_many(wanted).unwrap();
            held[3].mask().unwrap();
            let before = (seen(name, &device), vectors.enabled());
            device.fail_step(step, Errno::ENOMEM);
            let outcome = call(&vectors, &held);
            if device.disarm() {
                outcome.unwrap();
                assert!(step > 0, "{name} has steps that can fail");
                break;
            }
            let error = outcome.expect_err(name);
            assert_eq!(error.errno(), Some(Errno::ENOMEM.raw()), "{name}, step {step}: {error}");
            assert_eq!((seen(name, &device), vectors.enabled()), before, "{name}, step {step}");
            for trigger in &triggers {
                trigger.take();
            }
            for (number, trigger) in [2, 3, 4].into_iter().zip(&triggers) {
                device.raise(number);
                assert_eq!(trigger.take(), 1, "{name}, step {step}: vector {number}");
            }
            drop((held, vectors));
            assert_eq!(device.leaks(), None, "{name}, step {step}");
        }
    }
}

#[test]
fn any_step_that_fails_changes_nothing() {
    try_every_step(|| Arc::new(Simulated::new()), NoResize::default());
}

#[test]
fn any_step_that_fails_changes_nothing_where_all_are_reserved() {
    try_every_step(old, NoResize::default());
}

#[test]
fn any_step_that_fails_changes_nothing_where_the_index_is_reenabled() {
    try_every_step(old, NoResize::Reenable { spare: 0 });
}

#[test]
fn any_step_of_the_first_enable_leaves_the_index_idle() {
    for (dynamic, numbers) in [(true, [0, 1, 7]), (true, [3, 4, 9]), (false, [3, 4, 9])] {
        for step in 0.. {
            let device = Arc::new(Simulated::with(IrqCaps { dynamic, ..IrqCaps::default() }));
            let vectors = Vectors::open(Arc::clone(&device), Index::Msix).unwrap();
            device.fail_step(step, Errno::ENOMEM);
            let outcome = vectors.enable_many(numbers.map(|number| (number, fresh())));
            if device.disarm() {
                outcome.unwrap();
                break;
            }
            outcome.unwrap_err();
            assert!(!vectors.is_active());
            assert_eq!(device.leaks(), None, "step {step}");
        }
    }
}

#[test]
fn vectors_that_linux_detaches_are_restored_and_signalled() {
    let device = Arc::new(Simulated::new());
    let vectors = Vectors::open(LikeC(Arc::clone(&device)), Index::Msix).unwrap();
    let before: [Trigger; 6] = triggers();
    let held = vectors.enable_many((0..6).zip(&before)).unwrap();
    let mut after: [Trigger; 6] = triggers();
    after[4] = no_eventfd();
    let error = vectors.retarget_many(held.iter().zip(&after)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL.raw()));
    for (number, trigger) in (0..6).zip(&before) {
        assert_eq!(trigger.take(), 1, "an interrupt of vector {number} may have been lost");
        device.raise(number);
        assert_eq!(trigger.take(), 1, "vector {number}");
    }
    // New vectors and enabled ones: the enabled ones are not disturbed, the new ones are detached.
    let wanted = [(6, fresh()), (7, no_eventfd()), (8, fresh())];
    vectors.enable_many(wanted).unwrap_err();
    assert_eq!(vectors.enabled(), [0, 1, 2, 3, 4, 5]);
    assert!(before.iter().all(|trigger| trigger.take() == 0));
    drop((held, vectors));
    assert_eq!(device.leaks(), None);
}

#[test]
fn vectors_that_cannot_be_restored_are_named() {
    let device = Arc::new(Simulated::new());
    let vectors = Vectors::open(LikeC(Arc::clone(&device)), Index::Msix).unwrap();
    let [good, gone] = triggers();
    let held = vectors.enable_many([(0, &good), (1, &gone)]).unwrap();
    // The request resolves the eventfd of vector 0, and fails at vector 1. Then the host detaches
    // both vectors one at a time. The library restores both at once, then each alone.
    for step in 2..20 {
        device.fail_step(step, Errno::ENOMEM);
        let wanted = [(&held[0], fresh()), (&held[1], no_eventfd())];
        let error = vectors.retarget_many(wanted).unwrap_err();
        device.disarm();
        if let Error::Unrestored { lost, .. } = &error {
            assert_eq!(vectors.enabled().len() + lost.len(), 2);
            return;
        }
        assert_eq!(vectors.enabled(), [0, 1]);
        assert!(good.take() > 0 && gone.take() > 0);
    }
}
