//! Each call of `Vectors` and `Vector`, and of INTx, ERR and REQ.

use crate::hosts::{KeepsVectors, no_eventfd, old, triggers};
use std::sync::Arc;
use vfio_irq::sim::{Errno, IrqCaps, Simulated};
use vfio_irq::{Error, Event, Index, Intx, NoResize, Trigger, Vectors};

fn opened() -> (Arc<Simulated>, Vectors<Arc<Simulated>>) {
    let device = Arc::new(Simulated::new());
    let vectors = Vectors::open(Arc::clone(&device), Index::Msix).unwrap();
    (device, vectors)
}

#[test]
fn a_vector_signals_until_it_is_dropped() {
    let (device, vectors) = opened();
    let [trigger] = triggers();
    let vector = vectors.enable(5, &trigger).unwrap();
    device.raise(5);
    assert_eq!(trigger.take(), 1);
    drop(vector);
    device.raise(5);
    assert_eq!(trigger.take(), 0);
    assert!(vectors.is_active(), "it stays allocated");
    drop(vectors);
    assert_eq!(device.leaks(), None);
}

#[test]
fn a_vector_whose_detach_was_refused_can_be_enabled_again() {
    let device = Arc::new(Simulated::new());
    let vectors = Vectors::open(KeepsVectors(Arc::clone(&device)), Index::Msix).unwrap();
    let [old, new] = triggers();
    let vector = vectors.enable(5, &old).unwrap();
    assert_eq!(vector.detach().unwrap_err().errno(), Some(Errno::ENOMEM.raw()));
    assert_eq!(vectors.enabled(), [5]);
    assert_eq!(old.take(), 1, "brought back, and told so");
    device.raise(5);
    assert_eq!(old.take(), 1, "it signals as before");
    let again = vectors.enable(5, &new).unwrap();
    device.raise(5);
    assert_eq!((old.take(), new.take()), (0, 1));
    drop((again, vectors));
    assert_eq!(device.leaks(), None);
}

#[test]
fn only_what_is_used_is_allocated() {
    let (device, vectors) = opened();
    let handles = vectors.enable_many([(40, Trigger::new().unwrap())]).unwrap();
    // The first request enables the index with vector 0.
    assert_eq!(device.allocated(), 2);
    let more = vectors.enable(41, Trigger::new().unwrap()).unwrap();
    assert_eq!(device.allocated(), 3);
    drop((handles, more));
}

#[test]
fn an_index_is_enabled_with_nothing_attached() {
    let (device, vectors) = opened();
    vectors.activate().unwrap();
    assert_eq!((vectors.is_active(), vectors.enabled(), device.allocated()), (true, vec![], 1));
    let before = device.requests();
    vectors.activate().unwrap();
    assert_eq!(device.requests(), before, "it is enabled already");
    // Vectors are added as usual, and vector 0 is one of them.
    let held = [0, 7].map(|number| vectors.enable(number, Trigger::new().unwrap()).unwrap());
    assert_eq!(device.allocated(), 2);
    drop(held);
    vectors.disable().unwrap();
    assert!(!vectors.is_active());

    device.set_interrupts(0);
    assert_eq!(vectors.activate().unwrap_err().errno(), Some(Errno::ENOSPC.raw()));
    assert!(!vectors.is_active());
    assert_eq!(device.leaks(), None);
}

#[test]
fn an_old_host_reserves_when_the_index_is_activated() {
    let policies = [(NoResize::ReserveAll { most: 16 }, 16), (NoResize::Reenable { spare: 3 }, 4)];
    for (policy, reserved) in policies {
        let device = old();
        let vectors = Vectors::with_policy(Arc::clone(&device), Index::Msix, policy).unwrap();
        vectors.activate().unwrap();
        assert_eq!(device.allocated(), reserved);
        let [trigger] = triggers();
        let held = vectors.enable(3, &trigger).unwrap();
        device.raise(3);
        assert_eq!((trigger.take(), device.allocated()), (1, reserved));
        drop(held);
    }
}

#[test]
fn neighbours_go_into_one_request() {
    let (device, vectors) = opened();
    let before = device.requests();
    let wanted = (0..64).map(|number| (number, Trigger::new().unwrap()));
    let handles = vectors.enable_many(wanted).unwrap();
    assert_eq!(device.requests() - before, 1);
    assert_eq!(vectors.enabled(), (0..64).collect::<Vec<_>>());
    drop(handles);
}

#[test]
fn handles_come_in_the_order_they_were_asked_for() {
    let (_, vectors) = opened();
    let wanted = [9, 2, 30, 3].map(|number| (number, Trigger::new().unwrap()));
    let handles = vectors.enable_many(wanted).unwrap();
    let numbers: Vec<u32> = handles.iter().map(vfio_irq::Vector::number).collect();
    assert_eq!(numbers, [9, 2, 30, 3]);
    assert_eq!(vectors.enabled(), [2, 3, 9, 30]);
}

#[test]
fn invalid_arguments_are_refused_without_a_request() {
    let (device, vectors) = opened();
    let held = vectors.enable(1, Trigger::new().unwrap()).unwrap();
    let before = device.requests();
    let [a, b] = triggers();
    let twice = vectors.enable_many([(2, &a), (2, &b)]).unwrap_err();
    assert_eq!(twice.to_string(), "vector 2 of MSI-X is named twice in one call");
    assert!(matches!(vectors.enable(1, &a), Err(Error::AlreadyEnabled { number: 1, .. })));
    assert!(matches!(vectors.enable(64, &a), Err(Error::NoSuchVector { count: 64, .. })));
    assert!(matches!(vectors.mask(60, 5), Err(Error::NoSuchVector { number: 64, .. })));
    assert!(matches!(vectors.mask(u32::MAX, 2), Err(Error::NoSuchVector { .. })));
    assert!(vectors.enable_many(Vec::<(u32, Trigger)>::new()).unwrap().is_empty());
    assert_eq!(device.requests(), before);
    drop(held);
    let wrong = Vectors::open(Arc::clone(&device), Index::Intx).unwrap_err();
    assert_eq!(wrong.to_string(), "this call takes MSI or MSI-X, not INTx");
    let bare = Simulated::with(IrqCaps { msi: 0, ..IrqCaps::default() });
    let absent = Vectors::open(bare, Index::Msi).unwrap_err();
    assert_eq!(absent.to_string(), "the device has no MSI");
}

#[test]
fn too_few_vectors_is_an_error_that_says_how_many_there_are() {
    let (device, vectors) = opened();
    device.set_interrupts(3);
    let wanted = (0..5).map(|number| (number, Trigger::new().unwrap()));
    let error = vectors.enable_many(wanted).unwrap_err();
    assert!(matches!(error, Error::TooFew { asked: 5, available: 3, .. }), "{error}");
    assert!(!vectors.is_active());
    assert_eq!(device.leaks(), None);
    let wanted = (0..3).map(|number| (number, Trigger::new().unwrap()));
    let handles = vectors.enable_many(wanted).unwrap();
    let error = vectors.enable(3, Trigger::new().unwrap()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOSPC.raw()));
    let text = error.to_string();
    assert!(text.starts_with("cannot attach vector 3 of MSI-X: "), "{text}");
    assert!(text.ends_with("let queues share vectors, or free other interrupts"), "{text}");
    drop(handles);
}

#[test]
fn an_errno_is_kept() {
    let (_, vectors) = opened();
    let error = vectors.enable(0, no_eventfd()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL.raw()));
    assert!(!vectors.is_active());
}

#[test]
fn a_retarget_loses_nothing_and_keeps_the_handle() {
    let (device, vectors) = opened();
    let [a, b, c, d] = triggers();
    let first = vectors.enable(0, &a).unwrap();
    let second = vectors.enable(1, &b).unwrap();
    let before = device.requests();
    vectors.retarget_many([(&first, &c), (&second, &d)]).unwrap();
    vectors.retarget_many([(&first, &d), (&second, &c)]).unwrap();
    assert_eq!(device.requests() - before, 2, "neighbours share a request");
    device.raise(0);
    assert_eq!([a.take(), b.take(), c.take(), d.take()], [0, 0, 0, 1], "the eventfds are swapped");
    device.raise(1);
    assert_eq!([a.take(), b.take(), c.take(), d.take()], [0, 0, 1, 0]);
    let other = Vectors::open(Simulated::new(), Index::Msix).unwrap();
    let stranger = other.enable(0, &a).unwrap();
    drop(other);
    assert!(matches!(stranger.retarget(&b), Err(Error::Disabled { number: 0 })));
}

#[test]
fn disable_makes_handles_stale_and_harmless() {
    let (device, vectors) = opened();
    let [a, b] = triggers();
    let stale = vectors.enable(3, &a).unwrap();
    vectors.disable().unwrap();
    vectors.disable().unwrap();
    assert_eq!(device.leaks(), None);
    let fresh = vectors.enable(3, &b).unwrap();
    assert!(matches!(stale.trigger(), Err(Error::Disabled { number: 3 })));
    assert!(matches!(stale.mask(), Err(Error::Disabled { number: 3 })));
    stale.detach().unwrap();
    device.raise(3);
    assert_eq!(b.take(), 1);
    drop(vectors);
    fresh.detach().unwrap();
    assert_eq!(device.leaks(), None);
}

#[test]
fn masks_hold_interrupts_and_outlive_a_handle() {
    let (device, vectors) = opened();
    let [trigger] = triggers();
    let vector = vectors.enable(4, &trigger).unwrap();
    vector.mask().unwrap();
    device.raise(4);
    assert_eq!(trigger.take(), 0);
    vector.unmask().unwrap();
    assert_eq!(trigger.take(), 1);
    vector.mask().unwrap();
    drop(vector);
    let again = vectors.enable(4, &trigger).unwrap();
    again.loopback().unwrap();
    assert_eq!(trigger.take(), 1, "loopback signals a masked vector, too");
}

#[test]
fn a_host_that_cannot_mask_says_so() {
    let shape = IrqCaps { msi_maskable: false, ..IrqCaps::default() };
    let vectors = Vectors::open(Simulated::with(shape), Index::Msi).unwrap();
    let vector = vectors.enable(0, Trigger::new().unwrap()).unwrap();
    let error = vector.mask().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the host cannot mask vectors of MSI: GET_IRQ_INFO does not report MASKABLE"
    );
}

#[test]
fn the_modes_exclude_each_other() {
    let device = Arc::new(Simulated::new());
    let msi = Vectors::open(Arc::clone(&device), Index::Msi).unwrap();
    let msix = Vectors::open(Arc::clone(&device), Index::Msix).unwrap();
    let [a, b] = triggers();
    let held = msi.enable(0, &a).unwrap();
    let invalid = Some(Errno::EINVAL.raw());
    assert_eq!(msix.enable(0, &b).unwrap_err().errno(), invalid);
    assert_eq!(Intx::enable(Arc::clone(&device), &b).unwrap_err().errno(), invalid);
    drop((held, msi));
    assert!(msix.enable(0, &b).is_ok());
}

#[test]
fn intx_masks_itself_and_resamples() {
    let device = Arc::new(Simulated::new());
    let [trigger, resample, other] = triggers();
    let mut intx = Intx::enable_resampled(Arc::clone(&device), &trigger, &resample).unwrap();
    device.assert_intx();
    device.assert_intx();
    assert_eq!(trigger.take(), 1);
    intx.unmask().unwrap();
    intx.retarget(&other).unwrap();
    intx.loopback().unwrap();
    assert_eq!((trigger.take(), other.take()), (0, 1));
    assert!(intx.retarget(no_eventfd()).is_err());
    other.take();
    device.assert_intx();
    assert_eq!(other.take(), 1);
    intx.set_resample(None).unwrap();
    intx.mask().unwrap();
    drop(intx);
    assert_eq!(device.leaks(), None);
    let disconnected = Simulated::with(IrqCaps { connected: false, ..IrqCaps::default() });
    let error = Intx::enable(disconnected, &trigger).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENODEV.raw()));
    assert!(Intx::enable_resampled(Arc::clone(&device), &trigger, no_eventfd()).is_err());
    assert_eq!(device.leaks(), None);
}

#[test]
fn err_and_req_signal_and_are_cleared() {
    let device = Arc::new(Simulated::new());
    let [bystander] = triggers();
    for (index, other_index) in [(Index::Err, Index::Req), (Index::Req, Index::Err)] {
        let [trigger, other] = triggers();
        let held = Event::open(Arc::clone(&device), other_index, &bystander).unwrap();
        let mut event = Event::open(Arc::clone(&device), index, &trigger).unwrap();
        event.loopback().unwrap();
        assert_eq!(trigger.take(), 1);
        event.retarget(&other).unwrap();
        event.loopback().unwrap();
        assert_eq!((event.trigger().take(), trigger.take()), (1, 0));
        assert_eq!(held.trigger().take(), 0, "the other event is not signalled");
    }
    assert_eq!(device.leaks(), None);
    let error = Event::open(device, Index::Msi, &bystander).unwrap_err();
    assert_eq!(error.to_string(), "this call takes ERR or REQ, not MSI");
}

#[test]
fn threads_share_vectors() {
    let (device, vectors) = opened();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let vectors = &vectors;
            scope.spawn(move || {
                for round in 0..20 {
                    let number = thread * 8 + round % 8;
                    let vector = vectors.enable(number, Trigger::new().unwrap()).unwrap();
                    vector.retarget(Trigger::new().unwrap()).unwrap();
                }
            });
        }
    });
    assert!(vectors.enabled().is_empty());
    drop(vectors);
    assert_eq!(device.leaks(), None);
}

#[test]
fn a_policy_changes_nothing_where_vectors_can_be_added() {
    for policy in [NoResize::default(), NoResize::Reenable { spare: 9 }] {
        let device = Arc::new(Simulated::new());
        let vectors = Vectors::with_policy(Arc::clone(&device), Index::Msix, policy).unwrap();
        let _first = vectors.enable(0, Trigger::new().unwrap()).unwrap();
        let _second = vectors.enable(1, Trigger::new().unwrap()).unwrap();
        assert_eq!(device.allocated(), 2);
    }
    assert!(old().requests() == 0);
}
